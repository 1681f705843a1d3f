// A proxy of Go's standard library that authenticates: who sends "Authorization: Bearer ann" is ann, whatever X-User-Id
// says. Run it with the URL of order_svc; it prints the address where it listens.
package main

import (
	"fmt"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"os"
	"strings"
)

func main() {
	backend, err := url.Parse(os.Args[1])
	if err != nil {
		panic(err)
	}
	proxy := &httputil.ReverseProxy{Rewrite: func(request *httputil.ProxyRequest) {
		request.SetURL(backend)
		request.Out.Header.Set("X-User-Id", strings.TrimPrefix(request.In.Header.Get("Authorization"), "Bearer "))
	}}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		panic(err)
	}
	fmt.Println(listener.Addr())
	panic(http.Serve(listener, proxy))
}
