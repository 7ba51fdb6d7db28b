#!/bin/bash
# The database and its three roles, once, by the superuser: linli_owner owns it and migrates, linli_login is what API and
# worker sign in as, linli_app is what their sessions become: it owns nothing. PostgreSQL's image runs this at its first
# start; elsewhere: PGHOST=… PGUSER=postgres SECRETS=./secrets deploy/roles.sh
set -euo pipefail
secrets=${SECRETS:-/run/secrets}
psql -v ON_ERROR_STOP=1 --no-psqlrc --dbname postgres \
    -v owner_password="$(cat "$secrets/linli_owner_password")" \
    -v login_password="$(cat "$secrets/linli_login_password")" <<'SQL'
CREATE ROLE linli_owner LOGIN PASSWORD :'owner_password';
CREATE ROLE linli_login LOGIN PASSWORD :'login_password';
CREATE ROLE linli_app NOLOGIN;
GRANT linli_app TO linli_login;
GRANT linli_app TO linli_owner WITH ADMIN OPTION;
CREATE DATABASE linli OWNER linli_owner TEMPLATE template0 ENCODING 'UTF8' LOCALE 'C';
REVOKE ALL ON DATABASE linli FROM PUBLIC;
GRANT CONNECT ON DATABASE linli TO linli_login;
SQL
psql -v ON_ERROR_STOP=1 --no-psqlrc --dbname linli <<'SQL'
REVOKE ALL ON SCHEMA public FROM PUBLIC;
ALTER SCHEMA public OWNER TO linli_owner;
SQL
