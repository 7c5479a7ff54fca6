// libpqxx 6: transactions, parameters, prepared statements, its pipeline, stream_to, cursors, notification receivers.
#include <cstdlib>
#include <fstream>
#include <functional>
#include <iostream>
#include <string>

#include <pqxx/pqxx>

namespace {

int stage = 1;

void out(const std::string& name, std::string value) {
    for (std::size_t at = 0; (at = value.find('\n', at)) != std::string::npos; at += 2) {
        value.replace(at, 1, "\\n");
    }
    std::cout << stage << '.' << name << ": " << value << std::endl;
}

std::string told(const pqxx::result& result) {
    std::string text = std::to_string(result.affected_rows()) + " ";
    for (pqxx::row::size_type i = 0; i < result.columns(); ++i) {
        text += std::string(result.column_name(i)) + " " + (result.column_type(i) < 16384 ? std::to_string(result.column_type(i)) : "own") + ",";
    }
    if (result.size() >= 40) {
        return text + std::to_string(result.size()) + " rows";
    }
    for (const auto& row : result) {
        for (const auto& value : row) {
            text += std::string("|") + (value.is_null() ? "null" : value.size() > 300 ? std::to_string(value.size()) : value.c_str());
        }
        text += ";";
    }
    return text;
}

void check(const std::string& name, const std::function<std::string()>& work) {
    try {
        out(name, work());
    } catch (const pqxx::sql_error& error) {
        out(name, "ERROR " + error.sqlstate() + " " + error.what());
    } catch (const std::exception& error) {
        out(name, std::string("ERROR ") + error.what());
    }
}

void common(pqxx::connection& connection) {
    std::ifstream file(std::getenv("COMMON"));
    std::string line, name, sql;
    const auto flush = [&] {
        if (!name.empty()) {
            check(name, [&] {
                pqxx::nontransaction work(connection);
                return told(work.exec(sql));
            });
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

void transactions(pqxx::connection& connection) {
    check("work", [&] {
        pqxx::work work(connection);
        const auto result = work.exec_params("insert into item (id, name, price) values ($1, $2, $3) returning id, name", 200, "ünï 🌳", 1.5);
        work.commit();
        return told(result);
    });
    check("aborted", [&] {
        pqxx::work work(connection);
        work.exec("delete from item");
        return std::string("left");
    });
    check("unique", [&] {
        pqxx::work work(connection);
        work.exec_params("insert into item (id) values ($1)", 200);
        return std::string("no error");
    });
    check("subtransaction", [&] {
        pqxx::work work(connection);
        work.exec("insert into item (id, name) values (201, 'outer')");
        try {
            pqxx::subtransaction inner(work, "inner");
            inner.exec("insert into item (id, name) values (202, 'inner')");
            inner.exec("select 1/0");
        } catch (const pqxx::sql_error& error) {
            out("inner", error.sqlstate());
        }
        {
            pqxx::subtransaction inner(work, "second");
            inner.exec("insert into item (id, name) values (203, 'second')");
            inner.commit();
        }
        work.commit();
        return std::string("done");
    });
    check("robust", [&] {
        pqxx::transaction<pqxx::serializable> work(connection);
        work.exec("insert into item (id, name) values (204, 'serializable')");
        work.commit();
        return std::string("done");
    });
    check("read only", [&] {
        pqxx::read_transaction work(connection);
        work.exec("insert into item (id) values (205)");
        return std::string("no error");
    });
    check("left", [&] {
        pqxx::nontransaction work(connection);
        return told(work.exec("select id, name from item where id between 200 and 209 order by id"));
    });
}

void prepared(pqxx::connection& connection) {
    connection.prepare("set", "update item set name = $1 where id = $2 returning id, name");
    connection.prepare("get", "select id, name, raw from item where id = $1");
    for (int n = 0; n < 4; ++n) {
        check("prepared", [&] {
            pqxx::work work(connection);
            const auto text = told(work.exec_prepared("set", "prepared " + std::to_string(n), 200)) + told(work.exec_prepared("get", 200));
            work.commit();
            return text;
        });
    }
    check("binary", [&] {
        pqxx::work work(connection);
        const std::string raw(700000, '\1');
        const auto result = work.exec_params("update item set raw = $1 where id = 200 returning length(raw), md5(raw)", pqxx::binarystring(raw));
        work.commit();
        return told(result);
    });
    connection.unprepare("set");
    connection.unprepare("get");
    check("gone", [&] {
        pqxx::nontransaction work(connection);
        return told(work.exec("execute get(1)"));
    });
}

void others(pqxx::connection& connection, pqxx::connection& other) {
    check("pipeline", [&] {
        pqxx::work work(connection);
        std::string text;
        {
            pqxx::pipeline pipe(work);
            pipe.retain(5);
            std::vector<pqxx::pipeline::query_id> ids;
            for (int n = 0; n < 12; ++n) {
                ids.push_back(pipe.insert(n % 2 ? "select " + std::to_string(n) : "insert into item (id, name) values (" + std::to_string(300 + n) + ", 'p') returning id"));
            }
            for (const auto id : ids) {
                text += told(pipe.retrieve(id));
            }
        }
        work.commit();
        return text;
    });
    check("pipeline with an error", [&] {
        pqxx::work work(connection);
        pqxx::pipeline pipe(work);
        pipe.retain(5);
        pipe.insert("select 1");
        pipe.insert("insert into item (id) values (300)");
        pipe.insert("select 2");
        pipe.complete();
        while (!pipe.empty()) {
            pipe.retrieve();
        }
        return std::string("no error");
    });
    check("stream", [&] {
        pqxx::work work(connection);
        work.exec("delete from pair");
        pqxx::stream_to stream(work, "pair", std::vector<std::string>{"a", "b", "v"});
        for (int n = 0; n < 300; ++n) {
            stream << std::make_tuple(n, "c" + std::to_string(n), n);
        }
        stream.complete();
        work.commit();
        return std::string("done");
    });
    check("stream twice", [&] {
        pqxx::work work(connection);
        pqxx::stream_to stream(work, "pair", std::vector<std::string>{"a", "b", "v"});
        stream << std::make_tuple(1, "c1", 1);
        stream.complete();
        work.commit();
        return std::string("no error");
    });
    check("stream back", [&] {
        pqxx::work work(connection);
        pqxx::stream_from stream(work, "pair", std::vector<std::string>{"a", "b"});
        std::tuple<int, std::string> row;
        int sum = 0;
        while (stream >> row) {
            sum += std::get<0>(row);
        }
        stream.complete();
        return std::to_string(sum);
    });
    check("cursor", [&] {
        pqxx::work work(connection);
        pqxx::stateless_cursor<pqxx::cursor_base::read_only, pqxx::cursor_base::owned> cursor(work, "select g from generate_series(1, 50) g", "numbers", false);
        return std::to_string(cursor.size()) + told(cursor.retrieve(10, 15)) + told(cursor.retrieve(40, 37));
    });
    check("large object", [&] {
        pqxx::work work(connection);
        pqxx::largeobjectaccess object(work);
        object.write("large object", 12);
        object.seek(6, std::ios::beg);
        char read[7] = {};
        object.read(read, 6);
        object.remove(work);
        work.commit();
        return std::string(read);
    });
    check("errorhandler", [&] {
        pqxx::nontransaction work(connection);
        work.exec("do $$ begin raise notice 'for the error handler'; end $$");
        return std::string("done");
    });
    (void)other;
}

struct Heard : pqxx::notification_receiver {
    std::string heard;
    Heard(pqxx::connection& connection, const std::string& channel) : notification_receiver(connection, channel) {}
    void operator()(const std::string& payload, int) override { heard += payload + ";"; }
};

void notify(pqxx::connection& connection, pqxx::connection& other, Heard& receiver, const std::string& payload) {
    {
        pqxx::nontransaction work(other);
        work.exec("select pg_notify(" + work.quote(receiver.channel()) + ", " + work.quote(payload) + ")");
    }
    for (int tries = 0; tries < 100 && receiver.heard.empty(); ++tries) {
        connection.await_notification(0, 200000);
    }
    out("heard", receiver.heard);
    receiver.heard.clear();
}

}  // namespace

int main() {
    pqxx::connection connection(""), other("");
    pqxx::quiet_errorhandler quiet(connection);
    Heard receiver(connection, "libpqxx_a");
    for (stage = 1; stage <= 3; ++stage) {
        if (stage > 1) {
            std::cout << "PAUSE" << std::endl;
            std::string answer;
            std::getline(std::cin, answer);
            for (int n = 0; n < 3; ++n) {
                check("carried", [&] {
                    pqxx::work work(connection);
                    const auto text = told(work.exec_prepared("carried_write", 10)) + told(work.exec_prepared("carried_read", 10));
                    work.commit();
                    return text;
                });
            }
            notify(connection, other, receiver, "across");
            connection.unprepare("carried_write");
            connection.unprepare("carried_read");
        }
        common(connection);
        transactions(connection);
        prepared(connection);
        others(connection, other);
        notify(connection, other, receiver, "hello");
        connection.prepare("carried_write", "update item set good = not good where id = $1 returning id");
        connection.prepare("carried_read", "select id, name from item where id = $1");
        check("prepared to be carried", [&] {
            pqxx::work work(connection);
            return told(work.exec_prepared("carried_write", 10)) + told(work.exec_prepared("carried_read", 10));
        });
    }
    return 0;
}
