#!/bin/bash
# Make the secrets that compose.yaml reads, once; what is there already is left alone. Needs openssl.
set -euo pipefail
umask 077
folder=${1:-secrets}
mkdir -p "$folder"
cd "$folder"
once() { if [ -s "$1" ]; then cat >/dev/null; else cat >"$1.new" && mv "$1.new" "$1"; fi; }
for name in postgres_password linli_owner_password linli_login_password; do openssl rand -hex 24 | once $name; done
printf 'postgresql://linli_owner:%s@postgres:5432/linli' "$(cat linli_owner_password)" | once linli_owner_database_url
printf 'postgresql://linli_login:%s@postgres:5432/linli' "$(cat linli_login_password)" | once database_url
printf '{"k1": "%s"}' "$(openssl rand -base64 32)" | once linli_field_keys
openssl rand -base64 32 | once linli_index_key
# The containers read them as a user of their own (uid 10001, and postgres), so the folder guards them, not the files.
chmod 0444 ./*
chmod 0700 .
