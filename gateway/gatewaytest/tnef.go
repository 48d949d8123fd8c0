package gatewaytest

import "encoding/binary"

// TNEFFile is a file for TNEF.
type TNEFFile struct {
	Name    string
	Content []byte
}

// TNEF writes winmail.dat as Outlook does (MS-OXTNEF), of a message of that class.
func TNEF(class string, files ...TNEFFile) []byte {
	out := binary.LittleEndian.AppendUint16(binary.LittleEndian.AppendUint32(nil, 0x223e9f78), 1)
	attribute := func(level byte, id uint32, value []byte) { out = TNEFAttribute(out, level, id, value) }
	attribute(1, 0x00089006, []byte{0, 0, 1, 0})
	attribute(1, 0x00069007, []byte{0xe4, 4, 0, 0, 0, 0, 0, 0})
	attribute(1, 0x00078008, append([]byte(class), 0))
	for _, f := range files {
		attribute(2, 0x00069002, make([]byte, 14))
		attribute(2, 0x0006800f, f.Content)
		attribute(2, 0x00018010, append([]byte(f.Name), 0))
		attribute(2, 0x00069005, TNEFProperties(map[uint32][]byte{0x3707001f: utf16le(f.Name)}))
	}
	return out
}

// TNEFAttribute appends one attribute with its checksum.
func TNEFAttribute(out []byte, level byte, id uint32, value []byte) []byte {
	out = binary.LittleEndian.AppendUint32(append(out, level), id)
	out = append(binary.LittleEndian.AppendUint32(out, uint32(len(value))), value...)
	var sum uint16
	for _, c := range value {
		sum += uint16(c)
	}
	return binary.LittleEndian.AppendUint16(out, sum)
}

// TNEFProperties writes MAPI properties of the kinds that have a length (text, binary), by their tags.
func TNEFProperties(values map[uint32][]byte) []byte {
	out := binary.LittleEndian.AppendUint32(nil, uint32(len(values)))
	for tag, v := range values {
		out = binary.LittleEndian.AppendUint32(out, tag)
		out = binary.LittleEndian.AppendUint32(binary.LittleEndian.AppendUint32(out, 1), uint32(len(v)))
		out = append(append(out, v...), make([]byte, -len(v)&3)...)
	}
	return out
}

func utf16le(s string) (out []byte) {
	for _, r := range s + "\x00" {
		out = binary.LittleEndian.AppendUint16(out, uint16(r))
	}
	return out
}
