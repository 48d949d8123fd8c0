package main

import (
	"bufio"
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	_ "modernc.org/sqlite" // reads the ledger as an operator does
)

var checkID = regexp.MustCompile(`(?m)^X-Check-Id: (\S+)\r?$`)

// sinkLine is one event of fault_sink.py.
type sinkLine struct {
	Event string `json:"ev"`
	ID    string `json:"id"`
	Acked bool   `json:"acked"`
	From  string `json:"frm"`
}

// verdict counts each message at the sink and in the mailbox, and holds the ledger against what Postfix was told.
func (k *killing) verdict(ctx context.Context) error {
	came, rejected, err := readSink(k.log)
	if err != nil {
		return err
	}
	bounced := map[string]int{}
	for _, m := range k.mailbox.Messages() {
		if id := checkID.FindSubmatch(m.Data); m.Sender == "" && id != nil {
			bounced[string(id[1])]++
		}
	}
	noted, err := k.noted(ctx)
	if err != nil {
		return err
	}
	told, err := accepted(k.postfix.Log())
	if err != nil {
		return err
	}
	var faults []string
	fault := func(format string, args ...any) { faults = append(faults, fmt.Sprintf(format, args...)) }
	twice, refused := 0, 0
	for i := range k.submitted {
		id := recipient(i)
		switch {
		case rejected[id]:
			refused++
			if bounced[id] != 1 || came[id] != 0 {
				fault("%s was refused: %d bounces, %d copies", id, bounced[id], came[id])
			}
		case came[id] == 0:
			fault("%s is lost", id)
		case bounced[id] != 0:
			fault("%s came and was bounced too", id)
		}
		if came[id] > 1 {
			twice += came[id] - 1
		}
		if told[id] && !noted[id] {
			fault("%s was answered 250 and has no row in the ledger", id)
		}
		if told[id] && came[id] == 0 {
			fault("%s was answered 250 and never came", id)
		}
	}
	if twice > k.underWay {
		fault("%d copies too many, %d deliveries were under way at the kills", twice, k.underWay)
	}
	if len(told) == 0 || k.kills == 0 {
		fault("%d messages were answered 250, %d kills: this shows nothing", len(told), k.kills)
	}
	fmt.Printf("kills=%d power=%v submitted=%d came=%d refused=%d bounced=%d copies_too_many=%d under_way_at_kills=%d faults=%d\n",
		k.kills, k.disk != nil, k.submitted, len(came), refused, len(bounced), twice, k.underWay, len(faults))
	if len(faults) > 0 {
		return errors.New(strings.Join(faults[:min(len(faults), 10)], "\n"))
	}
	return nil
}

func readSink(path string) (came map[string]int, rejected map[string]bool, err error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, nil, fmt.Errorf("log of the sink: %w", err)
	}
	defer f.Close()
	came, rejected = map[string]int{}, map[string]bool{}
	lines := bufio.NewScanner(f)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		var l sinkLine
		if err := json.Unmarshal(lines.Bytes(), &l); err != nil {
			return nil, nil, fmt.Errorf("log of the sink: %w", err)
		}
		switch {
		case l.ID == "":
		case l.Event == "reject":
			rejected[l.ID] = true
		case l.Event == "msg" && l.Acked:
			came[l.ID]++
		}
	}
	return came, rejected, lines.Err()
}

// noted are the recipients with a row that says delivered.
func (k *killing) noted(ctx context.Context) (map[string]bool, error) {
	db, err := sql.Open("sqlite", "file:"+filepath.Join(k.gateway.state, "passerelle.db")+"?mode=ro")
	if err != nil {
		return nil, fmt.Errorf("open ledger: %w", err)
	}
	defer db.Close()
	rows, err := db.QueryContext(ctx, `SELECT DISTINCT recipient FROM ledger_entries WHERE outcome = 'delivered'`)
	if err != nil {
		return nil, fmt.Errorf("read ledger: %w", err)
	}
	defer rows.Close()
	noted := map[string]bool{}
	for rows.Next() {
		var r string
		if err := rows.Scan(&r); err != nil {
			return nil, fmt.Errorf("read ledger: %w", err)
		}
		noted[r] = true
	}
	return noted, rows.Err()
}

var sentLine = regexp.MustCompile(`postfix/passerelle/lmtp\[\d+\]: \w+: to=<([^>]+)>.* status=sent `)

// accepted are the recipients for whom the gateway told Postfix 250.
func accepted(log string) (map[string]bool, error) {
	text, err := os.ReadFile(log)
	if err != nil {
		return nil, fmt.Errorf("log of Postfix: %w", err)
	}
	told := map[string]bool{}
	for m := range slices.Values(sentLine.FindAllSubmatch(text, -1)) {
		told[string(m[1])] = true
	}
	return told, nil
}
