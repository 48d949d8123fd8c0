package policy

import (
	_ "embed"
	"fmt"

	"github.com/goccy/go-yaml"
)

// StarterYAML is a commented table to begin with, as it stands in the config's example.
//
//go:embed starter.yaml
var StarterYAML string

// Starter gives the rules of StarterYAML.
func Starter() []Rule {
	var rules []Rule
	if err := yaml.UnmarshalWithOptions([]byte(StarterYAML), &rules, yaml.Strict()); err != nil {
		panic(fmt.Sprintf("policy: embedded starter rules: %v", err)) // found by the first test
	}
	return rules
}
