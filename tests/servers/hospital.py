"""A proxy as hospitals have them: it asks who you are, and opens TLS with a certificate of its own.

Writes its CA's certificate as ca.pem to a directory and prints where it listens. Every tunnel, to whatever
name below platform.test or sbgenomics.com, ends at one plain HTTP server.
"""

import argparse
import asyncio
import base64
import datetime
import pathlib
import ssl

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID


def certificate(name, issuer=None, names=()):
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    issued_by, signer = issuer or (subject, key)
    now = datetime.datetime.now(datetime.timezone.utc)
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issued_by)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + datetime.timedelta(days=2))
        .add_extension(x509.BasicConstraints(ca=issuer is None, path_length=None), critical=True)
    )
    if names:
        alternatives = x509.SubjectAlternativeName([x509.DNSName(name) for name in names])
        builder = builder.add_extension(alternatives, critical=False)
    return builder.sign(signer, hashes.SHA256()), key


def pem(found):
    return found.public_bytes(serialization.Encoding.PEM)


def context(directory, version):
    authority, authority_key = certificate("Hospital filter CA")
    names = ["platform.test", "*.platform.test", "*.sbgenomics.com"]
    own, key = certificate("platform.test", (authority.subject, authority_key), names)
    private = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    (directory / "server.pem").write_bytes(private + pem(own))
    (directory / "ca.pem").write_bytes(pem(authority))
    served = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    served.load_cert_chain(directory / "server.pem")
    served.minimum_version = served.maximum_version = version
    return served


async def pump(reader, writer):
    try:
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
        if writer.can_write_eof():
            writer.write_eof()
    except (ConnectionError, ssl.SSLError):
        pass
    finally:
        writer.close()


def serve(arguments, served):
    wanted = "basic " + base64.b64encode(arguments.user.encode()).decode().lower()

    async def tunnel(reader, writer):
        try:
            head = await reader.readuntil(b"\r\n\r\n")
        except (asyncio.IncompleteReadError, ConnectionError):
            writer.close()
            return
        lines = head.decode("latin-1").split("\r\n")
        given = [line.split(":", 1)[1].strip() for line in lines if line.lower().startswith("proxy-authorization:")]
        if not lines[0].startswith("CONNECT ") or [value.lower() for value in given] != [wanted]:
            writer.write(
                b"HTTP/1.1 407 Proxy Authentication Required\r\n"
                b'Proxy-Authenticate: Basic realm="hospital"\r\nContent-Length: 0\r\n\r\n'
            )
            await writer.drain()
            writer.close()
            return
        writer.write(b"HTTP/1.1 200 Connection established\r\n\r\n")
        await writer.drain()
        try:
            await writer.start_tls(served)
            host, port = arguments.server.rsplit(":", 1)
            there, back = await asyncio.open_connection(host, int(port))
        except (OSError, ssl.SSLError):
            writer.close()
            return
        print("tunnel", lines[0].split(" ")[1], writer.get_extra_info("ssl_object").version(), flush=True)
        await asyncio.gather(pump(reader, back), pump(there, writer))

    return tunnel


async def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--server", required=True)
    parser.add_argument("--directory", type=pathlib.Path, required=True)
    parser.add_argument("--tls", choices=["1.2", "1.3"], default="1.3")
    parser.add_argument("--user", default="lab:secret")
    arguments = parser.parse_args()
    version = {"1.2": ssl.TLSVersion.TLSv1_2, "1.3": ssl.TLSVersion.TLSv1_3}[arguments.tls]
    served = context(arguments.directory, version)
    server = await asyncio.start_server(serve(arguments, served), "127.0.0.1", 0)
    print("listens at", "%s:%d" % server.sockets[0].getsockname(), flush=True)
    async with server:
        await server.serve_forever()


asyncio.run(main())
