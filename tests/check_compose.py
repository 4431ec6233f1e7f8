"""Checks deploy/compose.yaml against the Compose schema.

    check_compose.py COMPOSE_FILE
"""

import importlib.util
import json
import pathlib
import sys

import fastjsonschema
import yaml


def main(path):
    package = pathlib.Path(importlib.util.find_spec("compose").submodule_search_locations[0])
    schema = json.loads((package / "config/compose_spec.json").read_text())
    # Its formats are Compose's own; what they say is checked by Compose when it runs.
    formats = {name: (lambda _: True) for name in ("ports", "expose", "duration", "subnet_ip_address", "uint32", "time")}
    fits = fastjsonschema.compile(schema, formats=formats)
    text = yaml.safe_load(pathlib.Path(path).read_text())
    fits(text)
    try:
        fits({**text, "services": {"gateway": {"portz": []}}})
    except fastjsonschema.JsonSchemaException:
        print(f"{path}: {len(text['services'])} services, valid")
    else:
        sys.exit("the schema accepts what it must not")


if __name__ == "__main__":
    main(sys.argv[1])
