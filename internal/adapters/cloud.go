//go:build cloud

package adapters

// The clients of the clouds make the program 46 MB larger, twice its size, and the first build two minutes longer.
import (
	_ "gocloud.dev/blob/azureblob" // azblob://
	_ "gocloud.dev/blob/gcsblob"   // gs://
	_ "gocloud.dev/blob/s3blob"    // s3://
)
