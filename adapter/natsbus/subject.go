package natsbus

import "strings"

const hexDigits = "0123456789ABCDEF"

// subject makes a NATS subject of a topic, a different one for each. Letters, digits and most
// signs stand for themselves, and so does a dot between two other characters. All else
// is % and two hexadecimal digits, because spaces, empty tokens and the
// wildcards * and > are no part of a subject.
func subject(topic string) string {
	for i := range len(topic) {
		if !plain(topic, i) {
			return escape(topic)
		}
	}
	if topic == "" {
		return "%"
	}
	return topic
}

func escape(topic string) string {
	b := make([]byte, 0, len(topic)+16)
	for i := range len(topic) {
		c := topic[i]
		if plain(topic, i) {
			b = append(b, c)
		} else {
			b = append(b, '%', hexDigits[c>>4], hexDigits[c&15])
		}
	}
	return string(b)
}

// token makes one token of a subject of any text that is not empty, a different one for each.
func token(text string) string {
	b := make([]byte, 0, len(text)+16)
	for i := range len(text) {
		if c := text[i]; c != '.' && plain(text, i) {
			b = append(b, c)
		} else {
			b = append(b, '%', hexDigits[c>>4], hexDigits[c&15])
		}
	}
	return string(b)
}

func plain(topic string, i int) bool {
	switch c := topic[i]; c {
	case '*', '>', '%', '$':
		return false
	case '.':
		return i > 0 && i < len(topic)-1 && topic[i-1] != '.'
	default:
		return c > ' ' && c < 0x7f
	}
}

// redact takes the credentials (a password, a token) out of one or more URLs, for messages.
// They need not be well formed: what is wrong with them is what the message may be about.
func redact(urls string) string {
	us := strings.Split(urls, ",")
	for i, u := range us {
		if at := strings.LastIndexByte(u, '@'); at >= 0 {
			scheme, _, ok := strings.Cut(u[:at], "://")
			if us[i] = "xxxxx" + u[at:]; ok {
				us[i] = scheme + "://" + us[i]
			}
		}
	}
	return strings.Join(us, ",")
}
