package store

import (
	"context"
	"database/sql/driver"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5/stdlib"
)

// Rooms write their SQL once, in the words of SQLite, and of these what PostgreSQL has too: no scalar MIN and MAX, a CAST where nothing else tells
// the type of a value, and columns that are counted up named with their table.

// dialect gives the text for PostgreSQL: ? becomes $1, BLOB and INTEGER are BYTEA and BIGINT, what SQLite alone needs goes.
func dialect(query string) string {
	var b strings.Builder
	b.Grow(len(query) + 16)
	n, word := 0, 0
	for i := 0; i < len(query); {
		c := query[i]
		switch {
		case c == '\'':
			end := strings.IndexByte(query[i+1:], '\'')
			if end < 0 {
				end = len(query) - i - 2
			}
			b.WriteString(query[i : i+end+2])
			i += end + 2
		case strings.HasPrefix(query[i:], "--"):
			end := strings.IndexByte(query[i:], '\n')
			if end < 0 {
				end = len(query) - i
			}
			i += end
		case c == '?':
			n++
			b.WriteByte('$')
			b.WriteString(strconv.Itoa(n))
			i++
		case letter(c):
			for word = i; i < len(query) && letter(query[i]); i++ {
			}
			switch w := query[word:i]; w {
			case "BLOB":
				b.WriteString("BYTEA")
			case "INTEGER":
				b.WriteString("BIGINT")
			case "WITHOUT", "INDEXED": // WITHOUT ROWID, INDEXED BY name
				rest := strings.Fields(query[i:])
				if skip := map[string]int{"WITHOUT": 1, "INDEXED": 2}[w]; len(rest) >= skip && (rest[0] == "BY" || strings.HasPrefix(rest[0], "ROWID")) {
					for range skip {
						for i < len(query) && !letter(query[i]) {
							i++
						}
						for i < len(query) && letter(query[i]) {
							i++
						}
					}
					break
				}
				b.WriteString(w)
			default:
				b.WriteString(w)
			}
		default:
			b.WriteByte(c)
			i++
		}
	}
	return b.String()
}

func letter(c byte) bool {
	return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c == '_'
}

// pgConnector gives connections that understand the rooms' SQL, and that answer in time.
type pgConnector struct {
	driver.Connector
	timeout time.Duration
	away    *breaker
}

func (c pgConnector) Connect(ctx context.Context) (_ driver.Conn, err error) {
	if err := c.away.enter(); err != nil {
		return nil, err
	}
	defer func(asked context.Context) {
		if err != nil && asked.Err() != nil { // he went: that tells nothing of the server
			c.away.quit()
		} else {
			c.away.leave(err)
		}
	}(ctx)
	ctx, cancel := context.WithTimeout(ctx, min(connectTime, c.timeout))
	defer cancel()
	conn, err := c.Connector.Connect(ctx)
	if err != nil {
		return nil, err
	}
	return &pgConn{conn.(*stdlib.Conn), c.timeout}, nil
}

type pgConn struct {
	*stdlib.Conn
	timeout time.Duration
}

func (c *pgConn) PrepareContext(ctx context.Context, query string) (driver.Stmt, error) {
	return c.Conn.PrepareContext(ctx, dialect(query))
}

func (c *pgConn) ExecContext(ctx context.Context, query string, args []driver.NamedValue) (driver.Result, error) {
	ctx, cancel := context.WithTimeout(ctx, c.timeout)
	defer cancel()
	return c.Conn.ExecContext(ctx, dialect(query), args)
}

// QueryContext: the time goes on until the last row is read. A server that stops answering in the middle holds nobody for ever.
func (c *pgConn) QueryContext(ctx context.Context, query string, args []driver.NamedValue) (driver.Rows, error) {
	ctx, cancel := context.WithTimeout(ctx, c.timeout)
	rows, err := c.Conn.QueryContext(ctx, dialect(query), args)
	if err != nil {
		cancel()
		return nil, err
	}
	return pgRows{rows, cancel}, nil
}

// CheckNamedValue gives values of Go's basic types, and booleans as SQLite has them.
func (c *pgConn) CheckNamedValue(v *driver.NamedValue) (err error) {
	if v.Value, err = driver.DefaultParameterConverter.ConvertValue(v.Value); err != nil {
		return err
	}
	if yes, ok := v.Value.(bool); ok {
		v.Value = int64(0)
		if yes {
			v.Value = int64(1)
		}
	}
	return nil
}

func (c *pgConn) ResetSession(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, min(aliveTime, c.timeout))
	defer cancel()
	return c.Conn.ResetSession(ctx)
}

type pgRows struct {
	driver.Rows
	cancel context.CancelFunc
}

func (r pgRows) Close() error {
	defer r.cancel()
	return r.Rows.Close()
}
