package main

import (
	"context"
	"flag"
)

func soak(context.Context, *flag.FlagSet, []string) error { return nil }
