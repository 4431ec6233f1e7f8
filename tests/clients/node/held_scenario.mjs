// @google-cloud/bigquery while its statements wait for a human; see ../README.md for the environment.

import {bigquery, step, DATASET} from './common.mjs';

const made = name => `CREATE TABLE ${DATASET}.${name} AS SELECT 1 AS x`;

async function waited(run) {
  const begun = Date.now();
  await run();
  return Math.floor((Date.now() - begun) / 1000);
}

await Promise.all([
  step('held_query', () => waited(() => bigquery.query(made('node_query')))),
  step('held_insert', () =>
    waited(async () => {
      const [job] = await bigquery.createQueryJob(made('node_insert'));
      await job.getQueryResults();
    })),
]);
