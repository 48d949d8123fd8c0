package duties

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/riverqueue/river"
	"github.com/riverqueue/river/riverdriver/riverpgxv5"
	"github.com/riverqueue/river/rivermigrate"
)

// shared is the database of a queue that several gateways work on. It may be away, at Open too.
type shared struct {
	pool   *pgxpool.Pool
	driver *riverpgxv5.Driver
	quiet  *slog.Logger
	log    *slog.Logger
	ready  func(context.Context) error

	mu   sync.Mutex
	made bool
}

// tablesLock is the advisory lock under which one gateway makes the queue's tables.
const tablesLock = 0x6475746965 // "dutie"

// openShared connects when the queue is used first. Nothing is taken over here: what is in hand may be another gateway's, and River's leader gives
// it to others once it is in hand for longer than any try may take.
func openShared(ctx context.Context, cfg Config) (*Queue, error) {
	conf, err := pgxpool.ParseConfig(cfg.URL)
	if err != nil { // which may repeat the password
		return nil, errors.New("open queue of duties: the database's URL cannot be read")
	}
	conf.MaxConns, conf.MinConns = 6, 0
	conf.ConnConfig.ConnectTimeout = 5 * time.Second
	conf.ConnConfig.RuntimeParams["application_name"] = "passerelle duties"
	conf.ConnConfig.RuntimeParams["statement_timeout"] = "20000"
	conf.ConnConfig.RuntimeParams["default_transaction_isolation"] = "read committed"
	conf.ConnConfig.RuntimeParams["tcp_keepalives_idle"], conf.ConnConfig.RuntimeParams["tcp_keepalives_interval"], conf.ConnConfig.RuntimeParams["tcp_keepalives_count"] = "30", "10", "3"
	conf.ConnConfig.RuntimeParams["idle_in_transaction_session_timeout"] = "40000"
	s := &shared{quiet: slog.New(quietly{cfg.Log.Handler()}), log: cfg.Log, ready: cfg.Ready}
	if s.pool, err = pgxpool.NewWithConfig(context.WithoutCancel(ctx), conf); err != nil {
		return nil, fmt.Errorf("open queue of duties: %w", err)
	}
	s.driver = riverpgxv5.New(s.pool)
	settings := cfg.river(s.quiet, 5*cfg.Timeout) // the clocks of gateways may differ
	settings.PollOnly = true                      // a reminder is not urgent: no connection is kept for being told
	c, err := river.NewClient(s.driver, settings)
	if err != nil {
		s.pool.Close()
		return nil, fmt.Errorf("open queue of duties: %w", err)
	}
	return &Queue{shared: s, client: c}, nil
}

// await returns when the queue is there, or ctx has ended.
func (s *shared) await(ctx context.Context) error {
	for told := false; ; told = true {
		err := s.prepare(ctx)
		if err == nil || ctx.Err() != nil {
			return ctx.Err()
		}
		if !told {
			s.log.Error("the shared queue of duties cannot be reached: reminders and receipts wait", "err", err)
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(2 * time.Second):
		}
	}
}

// prepare makes the queue's tables, once.
func (s *shared) prepare(ctx context.Context) (err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.made {
		return nil
	}
	if s.ready != nil {
		if err := s.ready(ctx); err != nil {
			return err
		}
	}
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	tables, err := rivermigrate.New(s.driver, &rivermigrate.Config{Logger: s.quiet})
	if err != nil {
		return err
	}
	// Not in one transaction: a value of an enumeration is of use only once it is committed. The lock goes with its connection.
	err = s.pool.AcquireFunc(ctx, func(c *pgxpool.Conn) error {
		if _, err := c.Exec(ctx, `SELECT pg_advisory_lock($1)`, int64(tablesLock)); err != nil {
			return err
		}
		_, err := tables.Migrate(ctx, rivermigrate.DirectionUp, nil)
		end, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
		defer cancel()
		return errors.Join(err, c.Conn().Close(end)) // and the lock with it
	})
	if err != nil {
		return fmt.Errorf("make the tables of the shared queue: %w", err)
	}
	s.made = true
	return nil
}
