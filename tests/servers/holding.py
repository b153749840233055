#!/usr/bin/env python3
"""holding.py --server HOST:PORT --rate BYTES: takes at once what a client sends, and passes it on at that many
bytes a second, all connections together. Answers go back as they come. Says where it listens."""
import argparse, queue, socket, socketserver, threading, time

parser = argparse.ArgumentParser()
parser.add_argument("--server")
parser.add_argument("--rate", type=float)
asked = parser.parse_args()
host, port = asked.server.rsplit(":", 1)
line = threading.Lock()


class Held(socketserver.BaseRequestHandler):
    def handle(self):
        far = socket.create_connection((host, int(port)))
        taken = queue.Queue()

        def pass_on():
            while chunk := taken.get():
                with line:
                    time.sleep(len(chunk) / asked.rate)
                far.sendall(chunk)

        def answer():
            while chunk := far.recv(65536):
                self.request.sendall(chunk)

        for work in (pass_on, answer):
            threading.Thread(target=work, daemon=True).start()
        while chunk := self.request.recv(8192):
            taken.put(chunk)
        taken.put(b"")


class Server(socketserver.ThreadingTCPServer):
    daemon_threads = True

    def handle_error(self, *_):
        pass


server = Server(("127.0.0.1", 0), Held)
print("listens at 127.0.0.1:%d" % server.server_address[1], flush=True)
server.serve_forever()
