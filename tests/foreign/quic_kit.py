"""Certificates, good ones and bad ones, and raw QUIC datagrams, for the checks that speak QUIC."""

import datetime
import ipaddress
import socket

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

DAY = datetime.timedelta(days=1)


class Authority:
    """Signs certificates; `folder` keeps all of them as PEM files."""

    def __init__(self, folder, name="ca"):
        self.folder, self.name = folder, name
        self.key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        constraints = x509.BasicConstraints(ca=True, path_length=0)
        now = datetime.datetime.now(datetime.timezone.utc)
        builder = _builder(subject, subject, self.key, now - DAY, now + DAY)
        self.certificate = builder.add_extension(constraints, critical=True).sign(self.key, hashes.SHA256())
        self.file = str(folder / f"{name}.pem")
        with open(self.file, "wb") as file:
            file.write(self.certificate.public_bytes(serialization.Encoding.PEM))

    def server(self, name="server"):
        names = [x509.DNSName("localhost"), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]
        return self._issue(name, names, ExtendedKeyUsageOID.SERVER_AUTH)

    def client(self, name, uris, days=1):
        """`uris`: who its holder is; `days`: until it ends, negative for an expired one."""
        names = [x509.UniformResourceIdentifier(uri) for uri in uris]
        return self._issue(name, names, ExtendedKeyUsageOID.CLIENT_AUTH, days)

    def _issue(self, name, names, usage, days=1):
        """Paths of the certificate and its key."""
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        ends = datetime.datetime.now(datetime.timezone.utc) + days * DAY
        builder = _builder(subject, self.certificate.subject, key, ends - 3 * DAY, ends)
        if names:
            builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
        builder = builder.add_extension(x509.ExtendedKeyUsage([usage]), critical=False)
        certificate = builder.sign(self.key, hashes.SHA256())
        paths = self.folder / f"{self.name}-{name}.pem", self.folder / f"{self.name}-{name}.key"
        paths[0].write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
        kind, none = serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        paths[1].write_bytes(key.private_bytes(serialization.Encoding.PEM, kind, none))
        paths[1].chmod(0o600)
        return str(paths[0]), str(paths[1])


def _builder(subject, issuer, key, begins, ends):
    builder = x509.CertificateBuilder().subject_name(subject).issuer_name(issuer).public_key(key.public_key())
    builder = builder.serial_number(x509.random_serial_number())
    return builder.not_valid_before(begins).not_valid_after(ends)


def first_datagrams(configuration):
    """What a client would send first, with the connection that made it."""
    from aioquic.quic.connection import QuicConnection

    connection = QuicConnection(configuration=configuration)
    connection.connect(("127.0.0.1", 1), now=0.0)
    return [data for data, _ in connection.datagrams_to_send(now=0.0)]


def answers(port, datagrams, wait_s):
    """All that comes back to a socket that sent these and never says anything again."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as out:
        out.connect(("127.0.0.1", port))
        for data in datagrams:
            out.send(data)
        out.settimeout(wait_s)
        back = []
        try:
            while True:
                back.append(out.recv(65536))
        except (TimeoutError, ConnectionRefusedError):
            return back
