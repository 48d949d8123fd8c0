package main

import (
	"os"

	"passerelle/cmd/passerelle/demo"
)

type demoCmd struct {
	Once bool `help:"Stop after the table instead of leaving the patient's page up; exit 0 only if every check held."`
}

func (c demoCmd) Run(e *env) error {
	self, err := os.Executable()
	if err != nil {
		return err
	}
	return demo.Run(e.ctx, demo.Config{Binary: self, Once: c.Once, Out: e.stdout})
}
