// Go's database/sql with lib/pq (argument "pq") and pgx 4's stdlib (argument "pgx"), and what pgx has of its own: batches,
// CopyFrom, binary formats, its statement cache.
package main

import (
	"bufio"
	"context"
	"crypto/md5"
	"database/sql"
	"errors"
	"fmt"
	"os"
	"regexp"
	"strings"
	"time"

	"github.com/jackc/pgconn"
	"github.com/jackc/pgx/v4"
	_ "github.com/jackc/pgx/v4/stdlib"
	"github.com/lib/pq"
)

var stage = 1
var in = bufio.NewReader(os.Stdin)
var ctx = context.Background()

func out(name string, value interface{}) {
	fmt.Printf("%d.%s: %s\n", stage, name, strings.ReplaceAll(fmt.Sprint(value), "\n", "\\n"))
}

func problem(err error) string {
	var pqErr *pq.Error
	var pgErr *pgconn.PgError
	if errors.As(err, &pqErr) {
		return fmt.Sprintf("ERROR %s %s %s %s %s %s", pqErr.Code, pqErr.Message, pqErr.Detail, pqErr.Constraint, pqErr.Table, pqErr.Position)
	}
	if errors.As(err, &pgErr) {
		return fmt.Sprintf("ERROR %s %s %s %s %s %d", pgErr.Code, pgErr.Message, pgErr.Detail, pgErr.ConstraintName, pgErr.TableName, pgErr.Position)
	}
	return "ERROR " + err.Error()
}

func check(name string, work func() (interface{}, error)) {
	value, err := work()
	if err != nil {
		value = problem(err)
	}
	out(name, value)
}

func shown(value interface{}) string {
	if bytes, ok := value.([]byte); ok {
		if len(bytes) > 300 {
			return fmt.Sprintf("%d bytes %x", len(bytes), md5.Sum(bytes))
		}
		return fmt.Sprintf("%q", bytes)
	}
	if when, ok := value.(time.Time); ok {
		return when.UTC().Format(time.RFC3339Nano)
	}
	text := fmt.Sprint(value)
	if len(text) > 300 {
		return fmt.Sprintf("%d %x", len(text), md5.Sum([]byte(text)))
	}
	return text
}

type querier interface {
	QueryContext(context.Context, string, ...interface{}) (*sql.Rows, error)
}

func run(connection querier, text string, values ...interface{}) (interface{}, error) {
	rows, err := connection.QueryContext(ctx, text, values...)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	return told(rows)
}

func told(rows *sql.Rows) (interface{}, error) {
	all := ""
	for {
		columns, err := rows.Columns()
		if err != nil {
			return nil, err
		}
		kinds, _ := rows.ColumnTypes()
		for i, column := range columns {
			all += column + " " + kinds[i].DatabaseTypeName() + ","
		}
		count, lines := 0, ""
		for rows.Next() {
			values := make([]interface{}, len(columns))
			places := make([]interface{}, len(columns))
			for i := range values {
				places[i] = &values[i]
			}
			if err := rows.Scan(places...); err != nil {
				return nil, err
			}
			count++
			for _, value := range values {
				lines += "|" + shown(value)
			}
			lines += ";"
		}
		if count < 40 {
			all += lines
		} else {
			all += fmt.Sprintf("%d rows %x", count, md5.Sum([]byte(lines)))
		}
		if !rows.NextResultSet() {
			break
		}
		all += " / "
	}
	return all, rows.Err()
}

func common(connection *sql.Conn) {
	file, _ := os.ReadFile(os.Getenv("COMMON"))
	parts := regexp.MustCompile(`(?m)^-- (.*)\n`).FindAllStringSubmatchIndex(string(file), -1)
	for i, part := range parts {
		end := len(file)
		if i+1 < len(parts) {
			end = parts[i+1][0]
		}
		name, text := string(file[part[2]:part[3]]), strings.TrimSpace(string(file[part[1]:end]))
		if text == "" {
			continue
		}
		check(name, func() (interface{}, error) { return run(connection, text) })
	}
}

func parameters(connection *sql.Conn) {
	for n := 0; n < 4; n++ {
		check("parameters", func() (interface{}, error) {
			return run(connection, "insert into item (id, name, price, good) values ($1, $2, $3, $4) returning id, name, price, good", 300+n, "ünï 🌳", "1.5", true)
		})
	}
	check("duplicate", func() (interface{}, error) { return run(connection, "insert into item (id) values ($1)", 300) })
	check("bytes", func() (interface{}, error) {
		return run(connection, "update item set raw = $1 where id = 300 returning md5(raw)", make([]byte, 1400000))
	})
	statement, err := connection.PrepareContext(ctx, "update item set price = price + 1 where id = $1 returning id, price")
	if err != nil {
		out("prepare", problem(err))
		return
	}
	for n := 0; n < 4; n++ {
		check("prepared", func() (interface{}, error) {
			rows, err := statement.QueryContext(ctx, 300)
			if err != nil {
				return nil, err
			}
			defer rows.Close()
			return told(rows)
		})
	}
	statement.Close()
	result, err := connection.ExecContext(ctx, "update item set name = 'exec' where id between $1 and $2", 300, 302)
	if err == nil {
		affected, _ := result.RowsAffected()
		out("affected", affected)
	}
}

func transactions(connection *sql.Conn) {
	transaction, err := connection.BeginTx(ctx, &sql.TxOptions{Isolation: sql.LevelSerializable})
	if err != nil {
		out("begin", problem(err))
		return
	}
	check("in a block", func() (interface{}, error) { return run(transaction, "insert into item (id, name) values ($1, 'block') returning id", 200) })
	check("isolation", func() (interface{}, error) { return run(transaction, "show transaction_isolation") })
	check("fails", func() (interface{}, error) { return run(transaction, "insert into item (id) values ($1)", 200) })
	check("refused", func() (interface{}, error) { return run(transaction, "select 1") })
	out("commit of a failed one", fmt.Sprint(transaction.Commit() != nil))
	transaction, _ = connection.BeginTx(ctx, nil)
	check("again", func() (interface{}, error) { return run(transaction, "insert into item (id, name) values ($1, 'block') returning id", 201) })
	out("commit", fmt.Sprint(transaction.Commit()))
	transaction, _ = connection.BeginTx(ctx, &sql.TxOptions{ReadOnly: true})
	check("read only", func() (interface{}, error) { return run(transaction, "delete from item") })
	transaction.Rollback()
	check("left", func() (interface{}, error) { return run(connection, "select id, name from item where id between 200 and 209") })
	short, cancel := context.WithTimeout(ctx, 300*time.Millisecond)
	defer cancel()
	_, err = connection.ExecContext(short, "select pg_sleep(30)")
	out("cancelled", err != nil)
}

func pqOwn(database *sql.DB) {
	transaction, _ := database.Begin()
	transaction.Exec("delete from pair")
	statement, err := transaction.Prepare(pq.CopyIn("pair", "a", "b", "v"))
	if err != nil {
		out("copy", problem(err))
		transaction.Rollback()
		return
	}
	for n := 0; n < 500; n++ {
		statement.Exec(n, fmt.Sprint("c", n), nil)
	}
	_, err = statement.Exec()
	out("copied", fmt.Sprint(err))
	statement.Close()
	out("copy committed", fmt.Sprint(transaction.Commit()))
	transaction, _ = database.Begin()
	statement, _ = transaction.Prepare(pq.CopyIn("pair", "a", "b", "v"))
	statement.Exec(1, "c1", 1)
	_, err = statement.Exec()
	if err != nil {
		out("copied twice", problem(err))
	}
	transaction.Rollback()
	check("array", func() (interface{}, error) {
		return run(database, "select $1::int[], $2::text[]", pq.Array([]int{1, 2}), pq.Array([]string{"a,b", "c"}))
	})
	check("copy's rows", func() (interface{}, error) { return run(database, "select count(*), sum(a) from pair") })
}

func pgxOwn(connection *pgx.Conn) {
	batch := &pgx.Batch{}
	for n := 0; n < 10; n++ {
		batch.Queue("insert into item (id, name) values ($1, $2) returning id", 500+n, fmt.Sprint("batch ", n))
	}
	batch.Queue("select count(*) from item where id >= 500")
	results := connection.SendBatch(ctx, batch)
	sum := 0
	for n := 0; n < 11; n++ {
		value := 0
		if err := results.QueryRow().Scan(&value); err != nil {
			out("batch", problem(err))
		}
		sum += value
	}
	out("batch", fmt.Sprint(sum, results.Close()))
	failing := &pgx.Batch{}
	failing.Queue("update item set name = 'lost' where id = 500")
	failing.Queue("insert into item (id) values (500)")
	failing.Queue("update item set name = 'lost' where id = 501")
	results = connection.SendBatch(ctx, failing)
	for n := 0; n < 3; n++ {
		check("failing batch", func() (interface{}, error) { return results.Exec() })
	}
	results.Close()
	check("kept", func() (interface{}, error) {
		name := ""
		return name, connection.QueryRow(ctx, "select name from item where id = 500").Scan(&name)
	})
	connection.Exec(ctx, "delete from pair")
	rows := [][]interface{}{}
	for n := 0; n < 500; n++ {
		rows = append(rows, []interface{}{int32(n), fmt.Sprint("c", n), nil})
	}
	check("copy from", func() (interface{}, error) {
		return connection.CopyFrom(ctx, pgx.Identifier{"pair"}, []string{"a", "b", "v"}, pgx.CopyFromRows(rows))
	})
	check("copy again", func() (interface{}, error) {
		return connection.CopyFrom(ctx, pgx.Identifier{"pair"}, []string{"a", "b", "v"}, pgx.CopyFromRows(rows[:2]))
	})
	check("values", func() (interface{}, error) {
		found, err := connection.Query(ctx, "select id, i2, i8, num::text, r8, t, u::text, ia::text, bo from kinds order by id")
		if err != nil {
			return nil, err
		}
		defer found.Close()
		all := ""
		for found.Next() {
			values, err := found.Values()
			if err != nil {
				return nil, err
			}
			all += fmt.Sprint(values, ";")
		}
		return all, found.Err()
	})
	check("simple protocol", func() (interface{}, error) {
		name := ""
		err := connection.QueryRow(ctx, "update item set name = $1 where id = $2 returning name", pgx.QuerySimpleProtocol(true), "si'mple", 500).Scan(&name)
		return name, err
	})
	check("nested", func() (interface{}, error) {
		return nil, connection.BeginFunc(ctx, func(outer pgx.Tx) error {
			outer.Exec(ctx, "insert into item (id, name) values (520, 'outer')")
			outer.BeginFunc(ctx, func(inner pgx.Tx) error {
				inner.Exec(ctx, "insert into item (id, name) values (521, 'inner')")
				return errors.New("own")
			})
			return nil
		})
	})
	connection.Exec(ctx, "listen golang_a")
	connection.Exec(ctx, "notify golang_a, 'own'")
	check("notified", func() (interface{}, error) {
		short, cancel := context.WithTimeout(ctx, 20*time.Second)
		defer cancel()
		note, err := connection.WaitForNotification(short)
		if err != nil {
			return nil, err
		}
		return note.Channel + " " + note.Payload, nil
	})
}

func main() {
	driver := os.Args[1]
	options := "sslmode=disable"
	if driver == "pgx" {
		options = fmt.Sprintf("host=%s port=%s user=%s dbname=%s sslmode=disable", os.Getenv("PGHOST"), os.Getenv("PGPORT"), os.Getenv("PGUSER"), os.Getenv("PGDATABASE"))
	}
	name := map[string]string{"pq": "postgres", "pgx": "pgx"}[driver]
	os.Unsetenv("PGCONNECT_TIMEOUT")
	database, err := sql.Open(name, options)
	if err != nil {
		panic(err)
	}
	connection, err := database.Conn(ctx)
	if err != nil {
		panic(err)
	}
	var own *pgx.Conn
	if driver == "pgx" {
		own, err = pgx.Connect(ctx, options)
		if err != nil {
			panic(err)
		}
	}
	var write, read *sql.Stmt
	for stage = 1; stage <= 3; stage++ {
		if stage > 1 {
			fmt.Println("PAUSE")
			in.ReadString('\n')
			for n := 0; n < 3; n++ {
				for what, statement := range map[string]*sql.Stmt{"carried write": write, "carried read": read} {
					check(fmt.Sprint(what, " ", n), func() (interface{}, error) {
						rows, err := statement.QueryContext(ctx, 10)
						if err != nil {
							return nil, err
						}
						defer rows.Close()
						return told(rows)
					})
				}
			}
			write.Close()
			read.Close()
		}
		common(connection)
		parameters(connection)
		transactions(connection)
		// A cancelled context costs the connection its life, in both drivers.
		connection.Close()
		for tries := 0; tries < 5; tries++ {
			if connection, err = database.Conn(ctx); err == nil {
				if err = connection.PingContext(ctx); err == nil {
					break
				}
				connection.Close()
			}
		}
		if err != nil {
			panic(err)
		}
		if own != nil {
			pgxOwn(own)
		} else {
			pqOwn(database)
		}
		if write, err = connection.PrepareContext(ctx, "update item set good = not good where id = $1 returning id"); err != nil {
			panic(err)
		}
		if read, err = connection.PrepareContext(ctx, "select id, name from item where id = $1"); err != nil {
			panic(err)
		}
	}
}
