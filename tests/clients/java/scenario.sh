#!/usr/bin/env bash
# A JVM, with what docs/clients.md says that it needs under `hansard exec`: it reads neither the proxy's variables nor a PEM bundle.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

if [[ -z ${BIGQUERY_URL:-} ]]; then
  # The session's own CA is the last of the bundle.
  awk '/BEGIN CERTIFICATE/ {pem = ""} {pem = pem $0 "\n"} END {printf "%s", pem}' "$SSL_CERT_FILE" >"$work/ca.pem"
  keytool -importcert -noprompt -alias hansard -file "$work/ca.pem" -keystore "$work/trust" -storepass changeit 2>"$work/err"
  proxy=${HTTPS_PROXY#http://}
  trust="-Djavax.net.ssl.trustStore=$work/trust -Djavax.net.ssl.trustStorePassword=changeit"
  export JAVA_TOOL_OPTIONS="-Dhttps.proxyHost=${proxy%:*} -Dhttps.proxyPort=${proxy#*:} $trust"
fi
java "$here/Scenario.java"
