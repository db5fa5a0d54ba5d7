package balanceconf

import "bytes"

// tooDeep returns the line of text, from 1, where something is nested too deeply, or 0. The YAML reader takes a time that grows
// with the square of such a depth, so this looks before it does. It looks at the marks of YAML only: brackets that are open, or
// close nothing, commas with nothing between them, and marks that stand behind one another in one line or one element.
//
// What looks like a comment or a text in quotes may be none, and hide such marks. So it looks once more, at everything, for so many
// that nobody writes them.
func tooDeep(text []byte) int {
	if line := deeper(text, maxDepth, true); line > 0 {
		return line
	}
	return deeper(text, 40*maxDepth, false)
}

// deeper is tooDeep for a depth of most. With skips it passes over comments and quotations.
func deeper(text []byte, most int, skips bool) int {
	line, open, stray, marks := 1, 0, 0, 0
	before := byte('\n') // the last byte that is no space
	for i := 0; i < len(text); i++ {
		c := text[i]
		begins := i == 0 || bytes.IndexByte([]byte(" \t\r\n[{,:"), text[i-1]) >= 0
		ends := i+1 == len(text) || bytes.IndexByte([]byte(" \t\r\n[{,]}"), text[i+1]) >= 0
		switch {
		case skips && c == '#' && begins:
			if n := bytes.IndexByte(text[i:], '\n'); n >= 0 {
				i += n - 1
			} else {
				i = len(text)
			}
			continue
		case skips && (c == '"' || c == '\'') && bytes.IndexByte([]byte("\n[{,:-?"), before) >= 0:
			end := quoted(text[i:])
			line += bytes.Count(text[i:i+end], []byte("\n"))
			i += end - 1
		case c == '\n':
			line++
			if open == 0 || !skips { // a comment may have one that is never closed
				marks = 0
			}
		case c == '[' || c == '{':
			open++
			marks = 0
		case c == ']' || c == '}':
			marks = 0
			if open--; open < 0 {
				open = 0
				stray++
			}
		case c == ',' && before == ',':
			stray++
		case c == ',' && open > 0:
			marks = 0
		case (c == '&' || c == '!') && begins, c == ':' && ends, (c == '-' || c == '?') && begins && ends:
			marks++
		}
		if max(open, stray, marks) > most {
			return line
		}
		if c != ' ' && c != '\t' && c != '\r' {
			before = c
		}
	}
	return 0
}

// quoted returns the length of the text in quotes that b begins with.
func quoted(b []byte) int {
	for i := 1; i < len(b); i++ {
		switch {
		case b[i] == '\\' && b[0] == '"', b[0] == '\'' && bytes.HasPrefix(b[i:], []byte("''")):
			i++ // what follows is escaped
		case b[i] == b[0]:
			return i + 1
		}
	}
	return len(b)
}
