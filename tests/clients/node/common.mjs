// What the Node scenarios share: the environment, the output, and the client.

import {readFileSync} from 'node:fs';
import {BigQuery} from '@google-cloud/bigquery';
import {JWT, OAuth2Client, PassThroughClient} from 'google-auth-library';

export const URL = process.env.BIGQUERY_URL;
export const PROJECT = process.env.BIGQUERY_PROJECT ?? 'proj';
export const DATASET = process.env.BIGQUERY_DATASET;
const MESSAGE_CHARS = 60;

// Without an address, as under `hansard exec`: the client finds everything by itself.
export const bigquery = URL ? new BigQuery({projectId: PROJECT, apiEndpoint: URL, authClient: authClient()}) : new BigQuery();

function authClient() {
  if (process.env.BIGQUERY_KEY_FILE) {
    const key = JSON.parse(readFileSync(process.env.BIGQUERY_KEY_FILE, 'utf8'));
    const client = new JWT({
      email: key.client_email,
      key: key.private_key,
      keyId: key.private_key_id,
      scopes: ['https://www.googleapis.com/auth/bigquery'],
    });
    // The library never reads token_uri; a self-signed JWT is its way without Google's token endpoint.
    client.useJWTAccessWithScope = true;
    return client;
  }
  if (process.env.BIGQUERY_TOKEN) {
    const client = new OAuth2Client();
    client.setCredentials({access_token: process.env.BIGQUERY_TOKEN});
    return client;
  }
  return new PassThroughClient();
}

export async function step(name, run) {
  let line;
  try {
    line = {step: name, value: plain(await run()) ?? null};
  } catch (error) {
    line = {step: name, error: described(error)};
  }
  console.log(JSON.stringify(line));
}

function plain(value) {
  if (typeof value === 'string') return withoutRunNames(value);
  if (typeof value === 'bigint') return {bigint: value.toString()};
  if (typeof value === 'number' && !Number.isFinite(value)) return {number: String(value)};
  if (Buffer.isBuffer(value)) return {bytes: value.toString('base64')};
  if (Array.isArray(value)) return value.map(plain);
  if (value === null || typeof value !== 'object') return value;
  if (value.constructor?.name === 'Big') return {big: value.toFixed()};
  return Object.fromEntries(Object.keys(value).sort().map(key => [key, plain(value[key])]));
}

function described(error) {
  // insert reports its errors one level deeper, by row.
  const first = error.errors?.[0]?.errors?.[0] ?? error.errors?.[0];
  return {
    class: error.constructor.name,
    code: Number.isInteger(error.code) ? error.code : null,
    reason: first?.reason ?? null,
    message: humanText(first?.message ?? error.message).slice(0, MESSAGE_CHARS),
  };
}

function humanText(message) {
  const text = message
    .replace(/https?:\/\/\S+/g, '<url>')
    .replace(/\b[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}\b/g, '<id>');
  return withoutRunNames(text).split(/\s+/).join(' ').trim();
}

function withoutRunNames(text) {
  return text.replaceAll(DATASET, '<dataset>').replace(new RegExp(`\\b${PROJECT}\\b`, 'g'), '<project>');
}
