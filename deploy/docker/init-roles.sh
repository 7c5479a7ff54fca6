#!/bin/bash
# Run by the databases' images once, in each: the role that applications log in with.
set -euo pipefail
psql -v ON_ERROR_STOP=1 -U "$POSTGRES_USER" -d "$POSTGRES_DB" -v password="$(cat "${APP_PASSWORD_FILE:-/run/secrets/app-password}")" <<'SQL'
create role app login password :'password';
grant set on parameter session_replication_role to app;
grant create on schema public to app;
SQL
