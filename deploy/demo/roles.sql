-- Run by the superuser on both servers before anything else. The application logs in as "app", with
-- a password; Banyan's mirror connections log in as "app" too and switch triggers and foreign keys
-- off for themselves, which PostgreSQL 15 can allow a role by name.
create role app login;
set password_encryption = 'scram-sha-256';
alter role app password :'password';
grant set on parameter session_replication_role to app;
