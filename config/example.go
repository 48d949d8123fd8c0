package config

import _ "embed"

// Example is the commented file with every key, as it is installed.
//
//go:embed example.yaml
var Example string
