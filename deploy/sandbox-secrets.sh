#!/usr/bin/env bash
# Writes deploy/.env with an evidence key and a service account for the sandbox, made here and worth nothing elsewhere.
set -euo pipefail
cd "$(dirname "$0")"
[ -e .env ] && { echo "deploy/.env exists; keep it, or delete it to make new secrets" >&2; exit 1; }
umask 077
key=$(openssl genpkey -algorithm RSA -pkeyopt rsa_keygen_bits:2048 2>/dev/null | awk '{printf "%s\\n", $0}')
account="{\"type\":\"service_account\",\"client_email\":\"gateway@sandbox.iam.gserviceaccount.com\",\"private_key_id\":\"sandbox\",\"private_key\":\"$key\",\"token_uri\":\"http://127.0.0.1:9402/token\"}"
printf "HANSARD_EVIDENCE_KEY='%s'\nHANSARD_SERVICE_ACCOUNT='%s'\n" "$(openssl rand -base64 32)" "$account" > .env
echo "wrote deploy/.env"
