// libpq itself: PQexec, PQexecParams, prepared statements, pipeline mode with Flush and several Syncs, single-row mode, COPY,
// asynchronous processing. Prints what a PGresult knows.
#include <libpq-fe.h>
#include <poll.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <functional>
#include <iostream>
#include <fstream>
#include <sstream>
#include <string>
#include <vector>

namespace {

int stage = 1;
std::string notices;

void out(const std::string& name, std::string value) {
    for (std::size_t at = 0; (at = value.find('\n', at)) != std::string::npos; at += 2) {
        value.replace(at, 1, "\\n");
    }
    std::cout << stage << '.' << name << ": " << value << std::endl;
}

std::string field(const PGresult* result, int code) {
    const char* text = PQresultErrorField(result, code);
    return text == nullptr ? "" : text;
}

std::string told(PGresult* result) {
    if (result == nullptr) {
        return "no result";
    }
    std::ostringstream text;
    text << PQresStatus(PQresultStatus(result)) << " [" << PQcmdStatus(result) << "] [" << PQcmdTuples(result) << "] binary " << PQbinaryTuples(result);
    for (const int code : {PG_DIAG_SEVERITY, PG_DIAG_SQLSTATE, PG_DIAG_MESSAGE_PRIMARY, PG_DIAG_MESSAGE_DETAIL, PG_DIAG_MESSAGE_HINT,
                           PG_DIAG_STATEMENT_POSITION, PG_DIAG_CONTEXT, PG_DIAG_TABLE_NAME, PG_DIAG_COLUMN_NAME, PG_DIAG_CONSTRAINT_NAME,
                           PG_DIAG_SOURCE_FUNCTION}) {
        const auto value = field(result, code);
        text << (value.empty() ? "" : " " + value);
    }
    for (int i = 0; i < PQnparams(result); ++i) {
        text << " $" << i + 1 << " " << PQparamtype(result, i);
    }
    for (int i = 0; i < PQnfields(result); ++i) {
        text << " {" << PQfname(result, i) << " " << (PQftype(result, i) < 16384 ? PQftype(result, i) : 0) << " " << PQfmod(result, i) << " "
             << PQfsize(result, i) << " " << PQfformat(result, i) << " " << (PQftable(result, i) != 0) << PQftablecol(result, i) << "}";
    }
    const int rows = PQntuples(result);
    std::size_t sum = 0;
    for (int row = 0; row < rows; ++row) {
        for (int i = 0; i < PQnfields(result); ++i) {
            const int size = PQgetlength(result, row, i);
            const char* value = PQgetvalue(result, row, i);
            for (int at = 0; at < size; ++at) {
                sum = sum * 31 + static_cast<unsigned char>(value[at]);
            }
            if (rows < 20 && size < 200) {
                text << " | " << (PQgetisnull(result, row, i) ? "null" : PQfformat(result, i) == 1 ? "#" + std::to_string(sum) : std::string(value));
            }
        }
    }
    text << " rows " << rows << " sum " << sum;
    PQclear(result);
    return text.str();
}

void show_notices(const std::string& name) {
    if (!notices.empty()) {
        out(name + " notices", notices);
        notices.clear();
    }
}

void check(const std::string& name, PGresult* result) {
    out(name, told(result));
    show_notices(name);
}

PGresult* run(PGconn* connection, const std::string& sql, const std::vector<const char*>& values = {}, int format = 0) {
    return PQexecParams(connection, sql.c_str(), static_cast<int>(values.size()), nullptr, values.data(), nullptr, nullptr, format);
}

void do_(PGconn* connection, const char* sql) { PQclear(PQexec(connection, sql)); }

void common(PGconn* connection) {
    std::ifstream file(std::getenv("COMMON"));
    std::string line, name, sql;
    int number = 0;
    const auto flush = [&] {
        if (!name.empty()) {
            // In turn: simple protocol, extended with text, extended with binary results.
            check(name, number % 3 == 0 ? PQexec(connection, sql.c_str()) : run(connection, sql, {}, number % 3 - 1));
            ++number;
        }
    };
    while (std::getline(file, line)) {
        if (line.rfind("-- ", 0) == 0) {
            flush();
            name = line.substr(3);
            sql.clear();
        } else {
            sql += line + "\n";
        }
    }
    flush();
}

void all_results(PGconn* connection, const std::string& name) {
    int number = 0;
    while (PGresult* result = PQgetResult(connection)) {
        out(name + " " + std::to_string(number++), told(result));
    }
    show_notices(name);  // with which result libpq hands them over depends on how the bytes came
}

void simple(PGconn* connection) {
    for (const char* sql : {"", ";;", "select 1; select 2, 3; update item set name = name where id = 1", "select 1; select 1/0; select 3",
                            "begin; insert into item (id) values (200); commit; insert into item (id) values (201); rollback",
                            "insert into item (id) values (202); begin; insert into item (id) values (203)", "rollback",
                            "select id from item where id between 200 and 209 order by id"}) {
        PQsendQuery(connection, sql);
        all_results(connection, std::string("simple ") + std::string(sql).substr(0, 20));
    }
    PQsendQuery(connection, "select g from generate_series(1, 5) g; insert into item (id) select g from generate_series(210, 212) g returning id");
    PQsetSingleRowMode(connection);
    all_results(connection, "single row");
}

void prepared(PGconn* connection) {
    const Oid types[] = {0, 23};
    check("prepare", PQprepare(connection, "s", "update item set name = $1 where id = $2 returning id, name, price", 2, types));
    check("describe", PQdescribePrepared(connection, "s"));
    const char* values[] = {"libpq", "1"};
    for (const int format : {0, 1, 0}) {
        check("execute " + std::to_string(format), PQexecPrepared(connection, "s", 2, values, nullptr, nullptr, format));
    }
    check("prepare twice", PQprepare(connection, "s", "select 1", 0, nullptr));
    check("prepare a write", PQprepare(connection, "w", "insert into item (id, name) values ($1, $2)", 0, nullptr));
    check("describe a write", PQdescribePrepared(connection, "w"));
    check("prepare a bad one", PQprepare(connection, "bad", "selec 1", 0, nullptr));
    check("describe nothing", PQdescribePrepared(connection, "bad"));
    check("deallocate", PQexec(connection, "deallocate s"));
    check("execute nothing", PQexecPrepared(connection, "s", 2, values, nullptr, nullptr, 0));
    check("deallocate all", PQexec(connection, "deallocate all"));
    check("unnamed", PQprepare(connection, "", "select $1::text || 'x', $2::int", 0, nullptr));
    check("unnamed described", PQdescribePrepared(connection, ""));
    check("unnamed executed", PQexecPrepared(connection, "", 2, values, nullptr, nullptr, 0));
    check("unnamed write", PQprepare(connection, "", "update item set name = $1 where id = $2 returning *", 0, nullptr));
    check("unnamed write described", PQdescribePrepared(connection, ""));
    check("cursor", PQexec(connection, "begin; declare c cursor for select id, name from item where id < 5 order by id"));
    check("portal", PQdescribePortal(connection, "c"));
    check("fetch", PQexec(connection, "fetch 2 from c; commit"));
}

void drain(PGconn* connection, const std::string& name, int syncs) {
    int number = 0;
    for (int nothing = 0; syncs > 0 && nothing < 100;) {
        PGresult* result = PQgetResult(connection);
        if (result == nullptr) {
            ++nothing;
            out(name + " " + std::to_string(number++), "-");
            continue;
        }
        nothing = 0;
        if (PQresultStatus(result) == PGRES_PIPELINE_SYNC) {
            --syncs;
        }
        check(name + " " + std::to_string(number++), result);
    }
}

void send(PGconn* connection, const std::string& sql, const std::vector<const char*>& values = {}, int format = 0) {
    PQsendQueryParams(connection, sql.c_str(), static_cast<int>(values.size()), nullptr, values.data(), nullptr, nullptr, format);
}

void pipelines(PGconn* connection) {
    PQenterPipelineMode(connection);
    for (int n = 0; n < 6; ++n) {
        const auto id = std::to_string(500 + n);
        send(connection, n % 2 ? "insert into item (id, name) values ($1, 'p')" : "insert into item (id, name) values ($1, 'p') returning id, name", {id.c_str()}, n % 4 / 2);
    }
    PQpipelineSync(connection);
    drain(connection, "pipeline", 1);
    send(connection, "update item set name = 'before' where id = 500");
    send(connection, "select 1 / 0");
    send(connection, "update item set name = 'behind' where id = 501");
    PQpipelineSync(connection);
    send(connection, "update item set name = 'next' where id = 502 returning name");
    PQpipelineSync(connection);
    PQsendPrepare(connection, "pp", "select name from item where id = $1", 0, nullptr);
    PQsendDescribePrepared(connection, "pp");
    const char* value = "502";
    PQsendQueryPrepared(connection, "pp", 1, &value, nullptr, nullptr, 0);
    PQsendQueryPrepared(connection, "pp", 1, &value, nullptr, nullptr, 1);
    PQpipelineSync(connection);
    drain(connection, "errors", 3);
    send(connection, "insert into item (id, name) values (510, 'flushed') returning id");
    PQsendFlushRequest(connection);
    PQflush(connection);
    check("flushed", PQgetResult(connection));
    out("flushed end", PQgetResult(connection) == nullptr ? "-" : "more");
    send(connection, "select count(*) from item where id = 510");
    PQsendFlushRequest(connection);
    PQflush(connection);
    check("flushed read", PQgetResult(connection));
    out("flushed read end", PQgetResult(connection) == nullptr ? "-" : "more");
    send(connection, "select 1 / 0");
    PQpipelineSync(connection);
    drain(connection, "flushed error", 1);
    send(connection, "select count(*) from item where id = 510");
    send(connection, "begin");
    send(connection, "insert into item (id, name) values (511, 'block')");
    PQpipelineSync(connection);
    send(connection, "insert into item (id, name) values (511, 'twice')");
    send(connection, "commit");
    PQpipelineSync(connection);
    send(connection, "commit");
    send(connection, "select count(*) from item where id = 511");
    PQpipelineSync(connection);
    drain(connection, "blocks", 3);
    for (int n = 0; n < 300; ++n) {
        const auto id = std::to_string(600 + n);
        send(connection, "insert into item (id, name) values ($1, repeat('x', 500)) on conflict (id) do nothing", {id.c_str()});
        if (n % 10 == 9) {
            PQpipelineSync(connection);
        }
    }
    int done = 0, syncs = 0;
    while (syncs < 30) {
        PGresult* result = PQgetResult(connection);
        done += result != nullptr && PQresultStatus(result) == PGRES_COMMAND_OK;
        syncs += result != nullptr && PQresultStatus(result) == PGRES_PIPELINE_SYNC;
        PQclear(result);
    }
    out("many", std::to_string(done));
    out("left the mode", std::to_string(PQexitPipelineMode(connection)) + std::to_string(PQtransactionStatus(connection)));
}

void copies(PGconn* connection) {
    do_(connection, "delete from pair");
    const auto copy = [&](const std::string& name, const char* sql, const std::vector<std::string>& lines, const char* failure) {
        check(name, PQexec(connection, sql));
        for (const auto& line : lines) {
            PQputCopyData(connection, line.data(), static_cast<int>(line.size()));
        }
        PQputCopyEnd(connection, failure);
        all_results(connection, name);
        out(name + " status", std::to_string(PQtransactionStatus(connection)));
    };
    copy("copy in", "copy pair from stdin", {"1\ta\t1\n", "2\tb\t\\N\n3\tc", "\t3\n"}, nullptr);
    copy("copy twice", "copy pair from stdin", {"9\ta\t1\n", "1\ta\t1\n"}, nullptr);
    copy("copy given up", "copy pair from stdin", {"9\ta\t1\n"}, "not today");
    copy("copy of nothing", "copy pair from stdin", {}, nullptr);
    copy("copy in a script", "insert into item (id) values (700); copy pair from stdin; insert into item (id) values (701)", {"4\td\t4\n"}, nullptr);
    check("bad copy", PQexec(connection, "copy nowhere from stdin"));
    check("copy out", PQexec(connection, "copy (select * from pair order by a) to stdout"));
    char* line = nullptr;
    std::string all;
    while (PQgetCopyData(connection, &line, 0) > 0) {
        all += line;
        PQfreemem(line);
    }
    out("copy out data", all);
    all_results(connection, "copy out end");
    PQsendQueryParams(connection, "copy pair (a, b) from stdin", 0, nullptr, nullptr, nullptr, nullptr, 0);
    check("extended copy", PQgetResult(connection));
    PQputCopyData(connection, "5\te\n", 4);
    PQputCopyEnd(connection, nullptr);
    all_results(connection, "extended copy");
    check("copied", PQexec(connection, "select count(*), sum(a) from pair"));
}

void notified(PGconn* connection, const std::string& name, int count) {
    std::string found;
    for (int tries = 0; tries < 200 && count > 0; ++tries) {
        pollfd descriptor{PQsocket(connection), POLLIN, 0};
        poll(&descriptor, 1, 100);
        PQconsumeInput(connection);
        while (PGnotify* note = PQnotifies(connection)) {
            found += std::string(note->relname) + " " + note->extra + ";";
            PQfreemem(note);
            --count;
        }
    }
    out(name, found);
}

void rest(PGconn* connection, PGconn* other) {
    do_(connection, "listen libpq_a");
    do_(other, "notify libpq_a, 'elsewhere'");
    notified(connection, "notified", 1);
    do_(connection, "unlisten libpq_a");
    PQsendQuery(connection, "select pg_sleep(30)");
    usleep(200000);
    char problem[256];
    PGcancel* cancel = PQgetCancel(connection);
    out("cancel", std::to_string(PQcancel(cancel, problem, sizeof problem)));
    PQfreeCancel(cancel);
    all_results(connection, "cancelled");
    check("after it", PQexec(connection, "select 1"));
    for (const char* name : {"server_version", "client_encoding", "DateStyle", "TimeZone", "IntervalStyle", "is_superuser", "session_authorization",
                             "standard_conforming_strings", "integer_datetimes", "in_hot_standby", "default_transaction_read_only", "application_name"}) {
        const char* value = PQparameterStatus(connection, name);
        out(std::string("parameter ") + name, value == nullptr ? "none" : value);
    }
    check("time zone", PQexec(connection, "set timezone = 'Asia/Tokyo'; set application_name = 'renamed'"));
    out("reported", std::string(PQparameterStatus(connection, "TimeZone")) + PQparameterStatus(connection, "application_name"));
    check("block", PQexec(connection, "begin; set local timezone = 'UTC'"));
    out("reported in the block", PQparameterStatus(connection, "TimeZone"));
    check("back", PQexec(connection, "rollback"));
    out("reported behind it", PQparameterStatus(connection, "TimeZone"));
    check("reset", PQexec(connection, "reset timezone; reset application_name"));
    out("reported at last", std::string(PQparameterStatus(connection, "TimeZone")) + PQparameterStatus(connection, "application_name"));
    check("function call", PQexec(connection, "select 1"));
    PQArgBlock argument{4, 1, {}};
    argument.u.integer = -7;
    int answer = 0, size = 0;
    check("fast path", PQfn(connection, 1397, &answer, &size, 1, &argument, 1));
    out("fast path answer", std::to_string(answer) + " " + std::to_string(size));
    out("protocol", std::to_string(PQprotocolVersion(connection)) + " " + std::to_string(PQserverVersion(connection) / 10000));
}

}  // namespace

int main() {
    PGconn* connection = PQconnectdb("");
    PGconn* other = PQconnectdb("");
    if (PQstatus(connection) != CONNECTION_OK || PQstatus(other) != CONNECTION_OK) {
        std::cerr << PQerrorMessage(connection);
        return 1;
    }
    PQsetNoticeReceiver(
        connection,
        [](void*, const PGresult* result) { notices += field(result, PG_DIAG_SEVERITY) + " " + field(result, PG_DIAG_SQLSTATE) + " " + field(result, PG_DIAG_MESSAGE_PRIMARY); },
        nullptr);
    for (stage = 1; stage <= 3; ++stage) {
        if (stage > 1) {
            std::cout << "PAUSE" << std::endl;
            std::string answer;
            std::getline(std::cin, answer);
            const char* value = "10";
            for (int n = 0; n < 3; ++n) {
                check("carried write", PQexecPrepared(connection, "carried_write", 1, &value, nullptr, nullptr, n % 2));
                check("carried read", PQexecPrepared(connection, "carried_read", 1, &value, nullptr, nullptr, n % 2));
            }
            check("carried and described", PQdescribePrepared(connection, "carried_write"));
            check("carried in SQL", PQexec(connection, "execute carried_sql(10)"));
            check("carried and unnamed", PQexecPrepared(connection, "", 1, &value, nullptr, nullptr, 0));
            do_(other, "notify libpq_b, 'across'");
            notified(connection, "carried channel", 1);
            check("carried settings", PQexec(connection, "select current_setting('my.carried'), current_setting('work_mem')"));
            do_(connection, "deallocate all");
        }
        common(connection);
        simple(connection);
        prepared(connection);
        pipelines(connection);
        copies(connection);
        rest(connection, other);
        PQclear(PQprepare(connection, "carried_write", "update item set good = not good where id = $1 returning *", 0, nullptr));
        PQclear(PQprepare(connection, "carried_read", "select id, name from item where id = $1", 0, nullptr));
        do_(connection, "prepare carried_sql(int) as update item set price = 1 where id = $1 returning id");
        do_(connection, "set my.carried = 'kept'; set work_mem = '7MB'; listen libpq_b");
        do_(connection, "update item set made = '2020-02-02'");
        PQclear(PQprepare(connection, "", "update item set price = 2 where id = $1 returning id", 0, nullptr));
    }
    PQfinish(connection);
    PQfinish(other);
    return 0;
}
