"""Throwaway certificate authorities and what they have signed, by the openssl command."""
import pathlib
import subprocess


class Authority:
    """A certificate authority in a directory of its own; `crt` is its certificate."""

    def __init__(self, directory, name="authority"):
        self.directory = pathlib.Path(directory)
        self.directory.mkdir(parents=True, exist_ok=True)
        self.crt = self.directory / "ca.crt"
        self.key = self.directory / "ca.key"
        openssl("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2",
                "-subj", f"/CN={name}", "-keyout", self.key, "-out", self.crt)

    def sign(self, file, common_name, names=()):
        """(certificate, key) for a common name and subject alternative names such as "DNS:localhost", "IP:127.0.0.1"."""
        crt, key, request = (self.directory / f"{file}.{suffix}" for suffix in ("crt", "key", "csr"))
        openssl("req", "-new", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes",
                "-subj", f"/CN={common_name}", "-keyout", key, "-out", request)
        extensions = self.directory / f"{file}.ext"
        extensions.write_text(f"subjectAltName={','.join(names)}\n" if names else "")
        openssl("x509", "-req", "-in", request, "-CA", self.crt, "-CAkey", self.key, "-CAcreateserial", "-days", "2",
                "-extfile", extensions, "-out", crt)
        key.chmod(0o600)
        return crt, key


def openssl(*arguments):
    subprocess.run(["openssl", *map(str, arguments)], check=True, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, timeout=60)
