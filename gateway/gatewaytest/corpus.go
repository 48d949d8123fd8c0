package gatewaytest

// Letter is a message of the corpus.
type Letter struct {
	Name  string
	Bytes []byte
}

// Corpus placeholder.
func Corpus() []Letter { return nil }
