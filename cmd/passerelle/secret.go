package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"passerelle/config"
	"passerelle/gateway"
)

type secretCmd struct {
	Seal secretSealCmd `cmd:"" help:"Read a phrase and print it sealed, for the column secret of the list."`
}

type secretSealCmd struct {
	stateFlag
	Address string `arg:"" help:"Whose entry it is for, or @domain."`
	KeyFile string `placeholder:"KEY" help:"The server key (default: key_file of --config, else server.key in the state folder)." type:"path"`
}

func (secretSealCmd) Help() string {
	return "The phrase comes from the terminal, where it is not shown, or from standard input; never from the command line, which others on the machine see. " +
		"What is printed opens for that address and under that server key alone: run it as a user that may read the key.\n\n" +
		"Examples:\n  passerelle secret seal --config /etc/passerelle/passerelle.yaml labo@courrier.example\n" +
		"  passerelle secret seal --key-file /etc/passerelle/server.key labo@courrier.example < phrase.txt"
}

func (c secretSealCmd) Run(e *env) error {
	cfg := &config.Config{}
	if c.KeyFile == "" { // else no config is needed
		dir, read, err := c.load()
		if err != nil {
			return err
		}
		if cfg.StateDir = dir; read != nil {
			cfg = read
		}
	}
	sealer, err := gateway.NewSecretSealer(c.KeyFile, cfg)
	if err != nil {
		return err
	}
	phrase, err := readPhrase(e.ctx, os.Stdin, e.stderr)
	if err != nil {
		return err
	}
	text, weakness, err := sealer.Seal(c.Address, phrase)
	if err != nil {
		return err
	}
	if weakness != "" {
		fmt.Fprintln(e.stderr, "warning: the phrase", weakness)
	}
	_, err = fmt.Fprintln(e.stdout, text)
	return err
}

// readPhrase takes one line: at a terminal twice and unseen, else all that there is to read.
func readPhrase(ctx context.Context, in *os.File, prompt io.Writer) (string, error) {
	show, err := hideInput(in)
	if err != nil { // no terminal
		b, err := io.ReadAll(io.LimitReader(in, 4097))
		phrase := strings.TrimRight(string(b), "\r\n")
		switch {
		case err != nil:
			return "", fmt.Errorf("read the phrase: %w", err)
		case len(b) > 4096 || strings.ContainsAny(phrase, "\r\n"):
			return "", errors.New("read the phrase: want one line")
		}
		return phrase, nil
	}
	defer show()
	lines, fault := make(chan string), make(chan error, 1)
	go func() { // it ends with the process where nobody types
		r := bufio.NewReader(in)
		for range 2 {
			line, err := r.ReadString('\n')
			if err != nil {
				fault <- err
				return
			}
			select {
			case lines <- strings.TrimRight(line, "\r\n"):
			case <-ctx.Done():
				return
			}
		}
	}()
	var typed [2]string
	for i, ask := range []string{"Phrase (not shown): ", "Once more: "} {
		fmt.Fprint(prompt, ask)
		select {
		case typed[i] = <-lines:
		case err := <-fault:
			return "", fmt.Errorf("read the phrase: %w", err)
		case <-ctx.Done():
			return "", ctx.Err()
		}
		fmt.Fprintln(prompt)
	}
	if typed[0] != typed[1] {
		return "", errors.New("read the phrase: the two differ")
	}
	return typed[0], nil
}
