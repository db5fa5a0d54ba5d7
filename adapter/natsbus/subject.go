package natsbus

import "net/url"

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

// redact takes the password out of a URL, for messages.
func redact(s string) string {
	u, err := url.Parse(s)
	if err != nil || u.User == nil {
		return s
	}
	return u.Redacted()
}
