// pgjdbc: extended protocol; server-side prepared statements after five executions, binary transfer, batches, fetch size,
// CopyManager, notifications, large objects, savepoints, cancel.
import java.io.*;
import java.nio.charset.StandardCharsets;
import java.nio.file.*;
import java.sql.*;
import java.util.*;
import org.postgresql.PGConnection;
import org.postgresql.PGNotification;
import org.postgresql.copy.CopyManager;
import org.postgresql.largeobject.*;
import org.postgresql.util.PSQLException;
import org.postgresql.util.ServerErrorMessage;

public class Checks {
    static int stage = 1;
    static final PrintStream out = new PrintStream(new FileOutputStream(FileDescriptor.out), true, StandardCharsets.UTF_8);

    interface Work { Object run() throws Exception; }

    static void check(String name, Work work) {
        String text;
        try {
            text = String.valueOf(work.run());
        } catch (SQLException error) {
            text = "ERROR " + error.getSQLState() + " " + error.getMessage();
            ServerErrorMessage told = error instanceof PSQLException ? ((PSQLException) error).getServerErrorMessage() : null;
            if (told != null) text += " " + told.getConstraint() + " " + told.getTable() + " " + told.getPosition() + " " + told.getRoutine();
        } catch (Exception error) {
            text = "ERROR " + error;
        }
        out.println(stage + "." + name + ": " + text.replace("\n", "\\n"));
    }

    static String rows(ResultSet set) throws SQLException {
        ResultSetMetaData meta = set.getMetaData();
        StringBuilder text = new StringBuilder();
        for (int i = 1; i <= meta.getColumnCount(); i++)
            text.append(meta.getColumnLabel(i)).append(' ').append(meta.getColumnTypeName(i)).append(' ').append(meta.getPrecision(i)).append(',');
        int count = 0;
        while (set.next()) {
            count++;
            text.append(';');
            for (int i = 1; i <= meta.getColumnCount(); i++) {
                Object value = set.getObject(i);
                String shown = value instanceof byte[] ? "bytes " + Arrays.hashCode((byte[]) value) : set.getString(i);
                text.append('|').append(value == null ? "null" : value.getClass().getSimpleName() + ":" + shown);
            }
        }
        String all = text.toString();
        return all.length() < 3000 ? all : count + " rows, " + all.hashCode();
    }

    static String results(Statement statement, boolean has) throws SQLException {
        StringBuilder text = new StringBuilder();
        for (boolean more = true; more; ) {
            if (has) {
                text.append(rows(statement.getResultSet()));
            } else {
                text.append(statement.getUpdateCount());
            }
            text.append(" / ");
            has = statement.getMoreResults();
            more = has || statement.getUpdateCount() != -1;
        }
        for (SQLWarning warning = statement.getWarnings(); warning != null; warning = warning.getNextWarning())
            text.append(" warned ").append(warning.getMessage());
        statement.clearWarnings();
        return text.toString();
    }

    static String run(Connection connection, String sql, Object... parameters) throws SQLException {
        try (PreparedStatement statement = connection.prepareStatement(sql)) {
            for (int i = 0; i < parameters.length; i++) statement.setObject(i + 1, parameters[i]);
            return results(statement, statement.execute());
        }
    }

    static void common(Connection connection) throws Exception {
        String text = Files.readString(Path.of(System.getenv("COMMON")));
        for (String part : text.split("(?m)^-- ")) {
            int end = part.indexOf('\n');
            if (end <= 0) continue;
            String name = part.substring(0, end), sql = part.substring(end).strip();
            check(name, () -> {
                try (Statement statement = connection.createStatement()) {
                    return results(statement, statement.execute(sql));
                }
            });
        }
    }

    static void prepared(Connection connection) throws Exception {
        try (PreparedStatement insert = connection.prepareStatement("insert into item (id, name, price) values (?, ?, ?)");
             PreparedStatement select = connection.prepareStatement("select id, name, price, made, good from item where id = ? and id <> 3");
             PreparedStatement update = connection.prepareStatement("update item set price = price + ? where id = ? returning id, price")) {
            for (int n = 0; n < 9; n++) { // named on the server from the fifth on, and binary
                int number = n;
                check("insert " + n, () -> {
                    insert.setInt(1, 300 + number); insert.setString(2, "n" + number); insert.setBigDecimal(3, new java.math.BigDecimal("1.5"));
                    return insert.executeUpdate();
                });
                check("update " + n, () -> { update.setInt(1, number); update.setInt(2, 300 + number); return rows(update.executeQuery()); });
                check("select " + n, () -> { select.setInt(1, 300 + number); return rows(select.executeQuery()); });
            }
            check("error when prepared", () -> { insert.setInt(1, 300); insert.setString(2, "again"); insert.setBigDecimal(3, null); return insert.executeUpdate(); });
            check("after it", () -> { select.setInt(1, 300); return rows(select.executeQuery()); });
            check("metadata", () -> insert.getParameterMetaData().getParameterTypeName(3) + select.getMetaData().getColumnTypeName(4));
        }
        check("altered", () -> run(connection, "create table changing (id int primary key, v text)"));
        try (PreparedStatement statement = connection.prepareStatement("insert into changing values (?, 'v') returning *")) {
            for (int n = 0; n < 12; n++) {
                int number = n;
                if (n == 8) check("altering", () -> run(connection, "alter table changing add column w int default 1"));
                check("changing " + n, () -> { statement.setInt(1, number); return rows(statement.executeQuery()); });
            }
        }
        check("altered away", () -> run(connection, "drop table changing"));
        check("kinds", () -> run(connection, "select id, i2, i8, num, r8, t, vc, ch, u, jb, ia, ta, bo, g, d, iv, net, bi, ra from kinds order by id"));
        check("array", () -> run(connection, "select ?::int[], ?::text", connection.createArrayOf("int4", new Object[] {1, null, 3}), "ünï 🌳"));
        check("bytes", () -> run(connection, "update item set raw = ? where id = 300 returning length(raw), md5(raw)", (Object) new byte[1500000]));
        check("keys", () -> {
            try (PreparedStatement statement = connection.prepareStatement("insert into item (id, name) values (400, 'key'), (401, 'key')", new String[] {"id", "name"})) {
                int count = statement.executeUpdate();
                return count + rows(statement.getGeneratedKeys());
            }
        });
        check("all keys", () -> {
            try (Statement statement = connection.createStatement()) {
                statement.executeUpdate("insert into pair values (400, 'a')", Statement.RETURN_GENERATED_KEYS);
                return rows(statement.getGeneratedKeys());
            }
        });
    }

    static void batches(Connection connection) throws Exception {
        check("batch", () -> {
            try (PreparedStatement statement = connection.prepareStatement("insert into item (id, name) values (?, ?)")) {
                for (int n = 500; n < 700; n++) { statement.setInt(1, n); statement.setString(2, "batch " + n); statement.addBatch(); }
                return Arrays.stream(statement.executeBatch()).sum();
            }
        });
        check("batch with an error", () -> {
            try (PreparedStatement statement = connection.prepareStatement("insert into item (id, name) values (?, ?)")) {
                for (int n : new int[] {700, 701, 500, 702}) { statement.setInt(1, n); statement.setString(2, "x"); statement.addBatch(); }
                try {
                    return Arrays.toString(statement.executeBatch());
                } catch (BatchUpdateException error) {
                    return Arrays.toString(error.getUpdateCounts()) + error.getSQLState();
                }
            }
        });
        check("batch of statements", () -> {
            try (Statement statement = connection.createStatement()) {
                statement.addBatch("update item set name = 'b' where id = 500");
                statement.addBatch("delete from item where id between 501 and 503");
                statement.addBatch("insert into pair values (1000, 'b')");
                return Arrays.toString(statement.executeBatch());
            }
        });
        check("left", () -> run(connection, "select count(*) from item where id between 500 and 799"));
    }

    static void transactions(Connection connection) throws Exception {
        connection.setAutoCommit(false);
        check("in a block", () -> run(connection, "insert into item (id, name) values (200, 'block')"));
        Savepoint savepoint = connection.setSavepoint("point");
        check("fails", () -> run(connection, "insert into item (id, name) values (200, 'block')"));
        check("refused", () -> run(connection, "select 1"));
        connection.rollback(savepoint);
        check("goes on", () -> run(connection, "insert into item (id, name) values (201, 'after')"));
        connection.commit();
        check("fetch size", () -> {
            try (PreparedStatement statement = connection.prepareStatement("select g, 'x' || g from generate_series(1, ?) g")) {
                statement.setFetchSize(7);
                statement.setInt(1, 100);
                long sum = 0;
                ResultSet set = statement.executeQuery();
                for (int n = 0; set.next(); n++) {
                    sum += set.getInt(1);
                    if (n == 30) run(connection, "update item set name = 'between' where id = 201");
                }
                return sum;
            }
        });
        check("fetch size with RETURNING", () -> {
            try (PreparedStatement statement = connection.prepareStatement("insert into item (id, name) select g, 'f' from generate_series(210, 229) g returning id")) {
                statement.setFetchSize(3);
                long sum = 0;
                for (ResultSet set = statement.executeQuery(); set.next(); ) sum += set.getInt(1);
                return sum;
            }
        });
        connection.rollback();
        check("rolled back", () -> run(connection, "select id, name from item where id between 200 and 229 order by id"));
        connection.commit();
        connection.setAutoCommit(true);
        for (int level : new int[] {Connection.TRANSACTION_REPEATABLE_READ, Connection.TRANSACTION_SERIALIZABLE, Connection.TRANSACTION_READ_COMMITTED}) {
            connection.setTransactionIsolation(level);
            check("isolation " + level, () -> run(connection, "show transaction_isolation"));
        }
        check("read only", () -> {
            connection.setReadOnly(true);
            connection.setAutoCommit(false);
            try {
                return run(connection, "delete from item");
            } finally {
                connection.rollback();
                connection.setReadOnly(false);
                connection.setAutoCommit(true);
            }
        });
    }

    static void copies(Connection connection) throws Exception {
        CopyManager copy = connection.unwrap(PGConnection.class).getCopyAPI();
        check("emptied", () -> run(connection, "delete from pair"));
        StringBuilder rows = new StringBuilder();
        for (int n = 0; n < 500; n++) rows.append(n).append(",c").append(n).append(",\n");
        check("copy in", () -> copy.copyIn("copy pair from stdin (format csv)", new StringReader(rows.toString())));
        check("copy twice", () -> copy.copyIn("copy pair from stdin (format csv)", new StringReader("9000,x,1\n1,c1,1\n")));
        check("copy wrong", () -> copy.copyIn("copy nowhere from stdin", new StringReader("1\n")));
        check("copy given up", () -> {
            var in = copy.copyIn("copy pair from stdin (format csv)");
            byte[] line = "9001,x,1\n".getBytes();
            in.writeToCopy(line, 0, line.length);
            in.cancelCopy();
            return "cancelled";
        });
        check("copy out", () -> {
            StringWriter writer = new StringWriter();
            return copy.copyOut("copy (select * from pair where a < 5 order by a) to stdout", writer) + writer.toString();
        });
        check("copied", () -> run(connection, "select count(*), sum(a) from pair"));
    }

    static String notified(Connection connection, int count) throws Exception {
        List<String> found = new ArrayList<>();
        for (int tries = 0; tries < 200 && found.size() < count; tries++) {
            PGNotification[] notes = connection.unwrap(PGConnection.class).getNotifications(100);
            if (notes != null) for (PGNotification note : notes) found.add(note.getName() + " " + note.getParameter());
        }
        return found.toString();
    }

    static void rest(Connection connection, Connection other) throws Exception {
        run(connection, "listen pgjdbc_a");
        run(other, "notify pgjdbc_a, 'elsewhere'");
        check("notified", () -> notified(connection, 1));
        run(connection, "unlisten pgjdbc_a");
        check("large object", () -> {
            connection.setAutoCommit(false);
            try {
                LargeObjectManager manager = connection.unwrap(PGConnection.class).getLargeObjectAPI();
                long oid = manager.createLO();
                LargeObject object = manager.open(oid);
                object.write("large object".getBytes());
                object.seek(6);
                String read = new String(object.read(6));
                object.close();
                manager.delete(oid);
                return read;
            } finally {
                connection.commit();
                connection.setAutoCommit(true);
            }
        });
        check("timeout", () -> {
            try (Statement statement = connection.createStatement()) {
                statement.setQueryTimeout(1);
                return statement.execute("select pg_sleep(30)");
            }
        });
        check("after it", () -> run(connection, "select 1"));
        check("call", () -> {
            try (CallableStatement call = connection.prepareCall("{? = call shout(?)}")) {
                call.registerOutParameter(1, Types.VARCHAR);
                call.setString(2, "called");
                call.execute();
                return call.getString(1);
            }
        });
        check("tables", () -> {
            StringBuilder names = new StringBuilder();
            try (ResultSet set = connection.getMetaData().getTables(null, System.getenv("PGUSER"), "%", new String[] {"TABLE", "VIEW"})) {
                while (set.next()) names.append(set.getString("TABLE_NAME")).append(' ');
            }
            return names;
        });
        check("keys of a table", () -> rows(connection.getMetaData().getPrimaryKeys(null, System.getenv("PGUSER"), "pair")));
        check("updatable", () -> {
            try (Statement statement = connection.createStatement(ResultSet.TYPE_SCROLL_INSENSITIVE, ResultSet.CONCUR_UPDATABLE);
                 ResultSet set = statement.executeQuery("select id, name from item where id < 3 order by id")) {
                set.absolute(2);
                set.updateString("name", "updated in place");
                set.updateRow();
                set.refreshRow();
                return set.getString("name");
            }
        });
    }

    static Connection connect(String options) throws Exception {
        return DriverManager.getConnection("jdbc:postgresql://" + System.getenv("PGHOST") + ":" + System.getenv("PGPORT") + "/" + System.getenv("PGDATABASE")
            + "?user=" + System.getenv("PGUSER") + "&sslmode=disable" + options);
    }

    public static void main(String[] arguments) throws Exception {
        BufferedReader in = new BufferedReader(new InputStreamReader(System.in));
        try (Connection connection = connect(""); Connection other = connect("&preferQueryMode=simple");
             PreparedStatement write = connection.prepareStatement("update item set good = not good where id = ? returning id");
             PreparedStatement read = connection.prepareStatement("select id, name from item where id = ?")) {
            for (stage = 1; stage <= 3; stage++) {
                if (stage > 1) {
                    out.println("PAUSE");
                    in.readLine();
                    for (int n = 0; n < 3; n++) {
                        check("carried write " + n, () -> { write.setInt(1, 10); return rows(write.executeQuery()); });
                        check("carried read " + n, () -> { read.setInt(1, 10); return rows(read.executeQuery()); });
                    }
                    run(other, "notify pgjdbc_b, 'across'");
                    check("carried channel", () -> notified(connection, 1));
                    check("carried setting", () -> run(connection, "select current_setting('my.carried'), current_setting('statement_timeout')"));
                }
                common(connection);
                prepared(connection);
                batches(connection);
                transactions(connection);
                copies(connection);
                rest(connection, other);
                for (int n = 0; n < 7; n++) {
                    write.setInt(1, 10);
                    write.executeQuery().close();
                    read.setInt(1, 10);
                    read.executeQuery().close();
                }
                run(connection, "listen pgjdbc_b");
                run(connection, "set my.carried = 'kept'");
                run(connection, "set statement_timeout = '1min'");
            }
        }
    }
}
