package adapters

import "testing"

// What stands after the bucket is a folder in it, which the clients of clouds would leave out.
func TestAFolderOfABucket(t *testing.T) {
	for where, want := range map[string]string{
		"s3://bucket?region=eu":               "s3://bucket?region=eu",
		"s3://bucket/?region=eu":              "s3://bucket/?region=eu",
		"s3://bucket/a/b/?region=eu":          "s3://bucket?prefix=a%2Fb%2F&region=eu",
		"gs://bucket/a":                       "gs://bucket?prefix=a%2F",
		"azblob://container/a?prefix=b/":      "azblob://container?prefix=a%2Fb%2F",
		"file:///a?metadata=skip&prefix=b%2F": "file:///a?create_dir=true&metadata=skip&no_tmp_dir=true&prefix=b%2F",
	} {
		if got, err := storeURL(where); err != nil || got.String() != want {
			t.Errorf("%s: %v, %v, want %s", where, got, err, want)
		}
	}
}
