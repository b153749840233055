"""A mail server with STARTTLS and a login, which keeps what it is sent.

usage: smtp.py DIRECTORY USER PASSWORD

Writes DIRECTORY/ca.pem, and its port into DIRECTORY/port. Each message is kept as DIRECTORY/try.N with the
reply it got: the N-th line of DIRECTORY/replies, else 250. "hang" takes the message and does not answer.
"""

import asyncio
import datetime
import ipaddress
import json
import os
import ssl
import sys

from aiosmtpd.smtp import SMTP, AuthResult
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

directory, user, password = sys.argv[1:]


def path(name):
    return os.path.join(directory, name)


def certify(name, issuer, key, signer, is_authority):
    begin = datetime.datetime.now(datetime.timezone.utc) - datetime.timedelta(hours=1)
    names = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
    issuers = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, issuer)])
    builder = (
        x509.CertificateBuilder()
        .subject_name(names)
        .issuer_name(issuers)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(begin)
        .not_valid_after(begin + datetime.timedelta(days=30))
        .add_extension(x509.BasicConstraints(is_authority, None), critical=True)
    )
    if not is_authority:
        here = x509.IPAddress(ipaddress.ip_address("127.0.0.1"))
        server = x509.ExtendedKeyUsage([x509.ExtendedKeyUsageOID.SERVER_AUTH])
        builder = builder.add_extension(x509.SubjectAlternativeName([here]), critical=False)
        builder = builder.add_extension(server, critical=False)
    return builder.sign(signer, hashes.SHA256())


def tls():
    authority, key = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
    root = certify("the lab", "the lab", authority, authority, True)
    leaf = certify("mail", "the lab", key, authority, False)
    pem = serialization.Encoding.PEM
    with open(path("ca.pem"), "wb") as file:
        file.write(root.public_bytes(pem))
    plain = serialization.NoEncryption()
    with open(path("server.pem"), "wb") as file:
        file.write(key.private_bytes(pem, serialization.PrivateFormat.PKCS8, plain))
        file.write(leaf.public_bytes(pem))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(path("server.pem"))
    return context


def login(server, session, envelope, mechanism, data):
    is_known = (data.login.decode(), data.password.decode()) == (user, password)
    return AuthResult(success=is_known, handled=False)


class Keeper:
    count = 0

    async def handle_DATA(self, server, session, envelope):
        number, self.count = self.count, self.count + 1
        replies = []
        if os.path.exists(path("replies")):
            replies = open(path("replies")).read().splitlines()
        reply = replies[number] if number < len(replies) else "250 OK"
        kept = {
            "to": envelope.rcpt_tos,
            "encrypted": session.ssl is not None,
            "login": session.authenticated,
            "content": envelope.content.decode(),
            "reply": reply,
        }
        with open(path("being-kept"), "w") as file:
            json.dump(kept, file)
        os.rename(path("being-kept"), path(f"try.{number:04}"))
        if reply == "hang":
            await asyncio.sleep(3600)
        return reply


async def main():
    keeper, context = Keeper(), tls()

    def connection():
        return SMTP(
            keeper, tls_context=context, require_starttls=True, authenticator=login, auth_required=True
        )

    loop = asyncio.get_running_loop()
    server = await loop.create_server(connection, "127.0.0.1", 0)
    with open(path("being-kept"), "w") as file:
        file.write(str(server.sockets[0].getsockname()[1]))
    os.rename(path("being-kept"), path("port"))
    await server.serve_forever()


asyncio.run(main())
