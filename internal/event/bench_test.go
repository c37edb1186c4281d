package event

import (
	"encoding/json"
	"testing"
)

const clickJSON = `{"event_id":"ml-100004","user_id":"671","item_id":"6565","type":"rating","value":3.5,"timestamp":"2015-07-15T00:28:39.000Z","decision_id":"d-7f3a","position":3,"surface":"home"}`

// BenchmarkDecodeInteraction stands beside encoding/json alone, which checks nothing.
func BenchmarkDecodeInteraction(b *testing.B) {
	raw := []byte(clickJSON)
	b.Run("decode", func(b *testing.B) {
		b.ReportAllocs()
		b.SetBytes(int64(len(raw)))
		for b.Loop() {
			if _, err := DecodeInteraction(raw, Latest); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("encoding_json", func(b *testing.B) {
		b.ReportAllocs()
		b.SetBytes(int64(len(raw)))
		for b.Loop() {
			var in Interaction
			if err := json.Unmarshal(raw, &in); err != nil {
				b.Fatal(err)
			}
		}
	})
}
