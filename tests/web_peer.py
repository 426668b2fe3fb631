# SPDX-License-Identifier: Apache-2.0
"""HTTP servers of the end-to-end tests: pages that are functions of the request, HTTP/2, proxies; and mappings that poll them."""
import base64
import contextlib
import http.server
import json
import select
import socket
import ssl
import threading
import urllib.request

LOGIN = "Basic " + base64.b64encode(b"me:pa ss").decode()


class Server:
    """An HTTP server whose pages are functions of the request."""

    def __init__(self, tls=None, version="HTTP/1.1", port=0):
        self.seen, self.over, server = [], threading.Event(), self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = version

            def respond(self):
                length = int(self.headers.get("Content-Length") or 0)
                server.seen.append((self.command, self.path, self.rfile.read(length).decode(), dict(self.headers)))
                page = getattr(server, "page_" + self.path.strip("/").split("?")[0].split("/")[0], None)
                if page:
                    page(self)
                else:
                    server.json(self, {"error": "no such page"}, 404)

            do_GET = do_POST = do_PUT = respond

            def log_message(self, *args):
                pass

        class Quiet(http.server.ThreadingHTTPServer):
            daemon_threads = True
            request_queue_size = 128

            def handle_error(self, *args):
                pass

        self.http = Quiet(("127.0.0.1", port), Handler)
        if tls:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(*tls)
            self.http.socket = context.wrap_socket(self.http.socket, server_side=True)
        self.port = self.http.server_address[1]
        self.url = f"{'https' if tls else 'http'}://127.0.0.1:{self.port}"
        threading.Thread(target=self.http.serve_forever, daemon=True).start()

    def close(self):
        self.over.set()
        self.http.shutdown()
        self.http.server_close()

    @staticmethod
    def json(request, value, status=200, **headers):
        body = value if isinstance(value, bytes) else json.dumps(value).encode()
        request.send_response(status)
        for name, text in headers.items():
            request.send_header(name, text)
        request.send_header("Content-Length", str(len(body)))
        request.end_headers()
        request.wfile.write(body)

    def count(self, page):
        return sum(1 for _, path, _, _ in self.seen if path.startswith("/" + page))

    def page_data(self, request):
        self.json(request, {"t": 21.5, "n": self.count("data")})

    def page_hang(self, _request):
        self.over.wait(60)

    def page_circle(self, request):
        self.json(request, {}, 302, Location="/circle")

    def page_garbage(self, request):
        request.wfile.write(b"hello, this is not HTTP\r\n\r\n")
        request.close_connection = True

    def page_text(self, request):
        self.json(request, b"not json")

    def page_trickle(self, request):
        request.wfile.write(b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n")
        try:
            while not self.over.wait(0.05):
                request.wfile.write(b" ")
        except OSError:
            pass

    def page_list(self, request):
        if request.path.endswith("/avg"):
            self.json(request, {"avg": {"A": 1.5, "B": 2.5}[request.path.split("/")[2]]})
        else:
            self.json(request, [{"id": "A"}, {"id": "B"}])

    def page_login(self, request):
        ok = request.headers.get("Authorization") == LOGIN
        self.json(request, {"t": 7} if ok else {}, 200 if ok else 401)

    def page_call(self, request):
        method, path, body, _ = self.seen[-1]
        self.json(request, {"method": method, "path": path, "body": body})

    def page_fails(self, request):
        self.json(request, {}, 500)

    def page_moved(self, request):
        self.json(request, {}, 302, Location="/data")

    def page_large(self, request):
        self.json(request, b'{"t":"' + b"x" * 150000 + b'"}')

    def page_endless(self, request):
        request.wfile.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        with contextlib.suppress(OSError):
            while not self.over.is_set():
                request.wfile.write(b"1000\r\n" + b"x" * 4096 + b"\r\n")

    def page_hangup(self, request):
        request.connection.shutdown(socket.SHUT_RDWR)
        request.close_connection = True

    def page_many(self, request):
        self.json(request, [{"n": i, "text": "x" * 4000} for i in range(200)])


class Http2Server:
    """Answers every request on its TLS port with {"t": stream number, "connection": number} over HTTP/2."""

    def __init__(self, tls):
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.context.load_cert_chain(*tls)
        self.context.set_alpn_protocols(["h2", "http/1.1"])
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        self.url = f"https://127.0.0.1:{self.port}"
        self.n_connections, self.paths, self.methods, self.protocols = 0, [], [], set()
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self):
        with contextlib.suppress(OSError):
            while True:
                client, _ = self.listener.accept()
                self.n_connections += 1
                threading.Thread(target=self.serve, args=(client,), daemon=True).start()

    def serve(self, client):
        import h2.config
        import h2.connection
        import h2.events
        with contextlib.suppress(OSError), self.context.wrap_socket(client, server_side=True) as link:
            self.protocols.add(link.selected_alpn_protocol())
            connection = h2.connection.H2Connection(h2.config.H2Configuration(client_side=False, header_encoding="utf-8"))
            connection.initiate_connection()
            link.sendall(connection.data_to_send())
            while data := link.recv(65536):
                for event in connection.receive_data(data):
                    if isinstance(event, h2.events.RequestReceived):
                        headers = dict(event.headers)
                        self.paths.append(headers[":path"])
                        self.methods.append(headers[":method"])
                        body = json.dumps({"t": event.stream_id}).encode()
                        connection.send_headers(event.stream_id, [(":status", "200"), ("content-type", "application/json")])
                        connection.send_data(event.stream_id, body, end_stream=True)
                link.sendall(connection.data_to_send())

    def close(self):
        self.listener.close()


class Proxy:
    """An HTTP proxy: absolute URLs and CONNECT. It remembers what it was asked for."""

    def __init__(self):
        self.seen, proxy = [], self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self):
                proxy.seen.append(f"GET {self.path}")
                opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
                with opener.open(self.path, timeout=5) as answer:
                    Server.json(self, answer.read())

            def do_CONNECT(self):
                proxy.seen.append(f"CONNECT {self.path}")
                host, _, port = self.path.partition(":")
                with socket.create_connection((host, int(port))) as far:
                    self.send_response(200)
                    self.end_headers()
                    self.pump(far)

            def pump(self, far):
                near = self.connection
                while True:
                    for ready in select.select([near, far], [], [])[0]:
                        data = ready.recv(65536)
                        if not data:
                            return
                        (far if ready is near else near).sendall(data)

            def log_message(self, *args):
                pass

        class Quiet(http.server.ThreadingHTTPServer):
            daemon_threads = True

            def handle_error(self, *args):
                pass

        self.http = Quiet(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.http.server_address[1]}"
        threading.Thread(target=self.http.serve_forever, daemon=True).start()

    def close(self):
        self.http.shutdown()
        self.http.server_close()


def mapping(url, device, period=0.2, points=(("t", "double"),), **more):
    return {"url": url, "scanPeriod": period, "timeout": 0.5, "converter": {
        "type": "json", "deviceNameJsonExpression": device, "deviceTypeJsonExpression": "meter",
        "telemetry": [{"key": k, "type": kind, "value": "${%s}" % k} for k, kind in points]}, **more}


def connector(server, *mappings, **more):
    return {"_type": "request", "host": server.url, "mapping": list(mappings), **more}
