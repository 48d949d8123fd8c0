package portal

import (
	"compress/zlib"
	"io"
	"strings"
	"testing"
)

func deflated(in string) string {
	var b strings.Builder
	z := zlib.NewWriter(&b)
	z.Write([]byte(in))
	z.Close()
	return b.String()
}

// A PDF that holds scripts, or may hold some that cannot be seen, is a download.
func TestCalm(t *testing.T) {
	head := "%PDF-1.5\n"
	script := deflated("1 0 <</S/JavaScript/JS(app.alert(1))>>")
	page := deflated("1 0 <</Type/Page>>")
	for name, c := range map[string]struct {
		pdf  string
		want bool
	}{
		"plain":                    {report, true},
		"script":                   {head + "<</OpenAction<</S/JavaScript/JS(app.alert(1))>>>>", false},
		"escaped":                  {head + "<</S /Java#53cript>>", false},
		"escaped twice":            {head + "<</S /#4aav#61Script>>", false},
		"launch":                   {head + "<</S/Launch/F(x.exe)>>", false},
		"form that sends itself":   {head + "<</S/SubmitForm/F(https://x.test)>>", false},
		"encrypted":                {head + "trailer<</Encrypt 5 0 R>>", false},
		"encrypted, direct":        {head + "trailer<</Encrypt<</V 5>>>>", false},
		"packed page":              {head + "5 0 obj<</Filter[/ASCII85Decode/FlateDecode]>>stream\nabc\nendstream", true},
		"objects":                  {head + "5 0 obj<</Type/ObjStm/N 1/First 4/Filter/FlateDecode/Length 9>>stream\n" + page + "endstream", true},
		"objects, script":          {head + "5 0 obj<</Type/ObjStm/N 1/First 4/Filter/FlateDecode/Length 9>>stream\r\n" + script + "endstream", false},
		"objects of no type":       {head + "5 0 obj<</N 1/First 4/Filter/FlateDecode>>stream\n" + script + "endstream", false},
		"objects, escaped key":     {head + "5 0 obj<</N 1/F#69rst 4/Filter/FlateDecode>>stream\n" + script + "endstream", false},
		"type elsewhere":           {head + "7 0 obj /ObjStm endobj 8 0 obj<</Filter/FlateDecode>>stream\n" + page + "endstream 5 0 obj<</Type 7 0 R/N 1/First 4/Filter/FlateDecode>>stream\n" + script + "endstream", false},
		"blank behind the keyword": {head + "5 0 obj<</Type/ObjStm/N 1/First 4/Filter/FlateDecode>>stream \n" + script + "endstream 6 0 obj<<>>stream\n" + page + "endstream", false},
		"CR behind the keyword":    {head + "5 0 obj<</Type/ObjStm/N 1/First 4/Filter/FlateDecode>>stream\r" + script + "endstream 6 0 obj<<>>stream\n" + page + "endstream", false},
		"objects, other":           {head + "5 0 obj<</Type/ObjStm/First 4/Filter[/ASCIIHexDecode/FlateDecode]>>stream\nabc", false},
		"objects, short form":      {head + "5 0 obj<</Type/ObjStm/First 4/F[/AHx/Fl]>>stream\nabc", false},
		"objects, predictor":       {head + "5 0 obj<</Type/ObjStm/First 4/Filter/FlateDecode/DecodeParms<</Predictor 12>>>>stream\n" + page + "endstream", false},
		"predictor elsewhere":      {head + "5 0 obj<</First 4/Filter/FlateDecode/DecodeParms 6 0 R>>stream\n" + page + "endstream 6 0 obj<</Predictor 12>>endobj", false},
		"predictor packed":         {head + "5 0 obj<</First 4/Filter/FlateDecode>>stream\n" + deflated("6 0 <</Predictor 12>>") + "endstream", false},
		"objects and a table": {head + "5 0 obj<</Type/ObjStm/N 1/First 4/Filter/FlateDecode>>stream\n" + page + "endstream endobj 6 0 obj\n<</Type/XRef/DecodeParms<</Columns 4/Predictor 12>>/ID[<AB><CD>]/Filter/FlateDecode>>\nstream\n" +
			deflated("\x02\x00\x01") + "endstream", true},
		"table that is objects": {head + "6 0 obj<</Type/XRef/First 4/DecodeParms<</Columns 4/Predictor 12>>/Filter/FlateDecode>>stream\n" + page + "endstream", false},
		"table in a string":     {head + "6 0 obj<</First 4/X(1 0 obj<<)/DecodeParms<</Predictor 12>>/Filter/FlateDecode>>stream\n" + page + "endstream", false},
		"table in a name":       {head + "6 0 obj<</First 4/X[1 0 obj<<>>]/DecodeParms<</Predictor 12>>/Filter/FlateDecode>>stream\n" + page + "endstream", false},
		"broken":                {head + "5 0 obj<</Type/ObjStm/N 1/First 4/Filter/FlateDecode>>stream\n" + page[:len(page)-6] + "\nendstream", false},
		"script across windows": {head + "5 0 obj<</N 1/First 4/Filter/FlateDecode>>stream\n" + deflated(strings.Repeat(" ", pdfWindow-5)+"/JavaScript ") + "endstream", false},
		"bomb":                  {head + "5 0 obj<</N 1/First 4/Filter/FlateDecode>>stream\n" + deflated(strings.Repeat(" ", maxInflate+1)) + "endstream", false},
		"large":                 {head + strings.Repeat("x", maxCalm), false},
	} {
		got, err := calmPDF(io.NewSectionReader(strings.NewReader(c.pdf), 0, int64(len(c.pdf))))
		if got != c.want || err != nil {
			t.Errorf("%s: %v, %v", name, got, err)
		}
	}
}

// A PDF made to be slow to look through holds a place for seconds at most: the octets a second of each must be of one order.
func BenchmarkCalmHostile(b *testing.B) {
	for name, pdf := range map[string]string{
		"keys":       strings.Repeat("/ObjStm/First ", 700_000) + "/Filter/FlateDecode>>stream\n" + deflated("x"),
		"streams":    "/First " + strings.Repeat("stream\n"+deflated(""), 500_000),
		"predictors": "/First " + strings.Repeat(" obj<<", 800_000) + strings.Repeat("/Predictor ", 400_000),
		"slashes":    strings.Repeat("/", 10_000_000),
	} {
		b.Run(name, func(b *testing.B) {
			b.SetBytes(int64(len(pdf)))
			for b.Loop() {
				calmPDF(io.NewSectionReader(strings.NewReader(pdf), 0, int64(len(pdf))))
			}
		})
	}
}
