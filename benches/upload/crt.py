"""Uploads a directory with the AWS common runtime, as its own example does: crt.py ADDRESS DIRECTORY [CA]."""
import os
import sys
import threading

from awscrt import auth, http, io, s3

# What is on its way at once: enough for the runtime's own limit to be the one that holds.
REQUESTS = 256
MIB = 1024 * 1024


def client(certificate):
    bootstrap = io.ClientBootstrap.get_or_create_static_default()
    keys = auth.AwsCredentialsProvider.new_static("bench", "bench-secret")
    options = {"tls_mode": s3.S3RequestTlsMode.DISABLED}
    if certificate:
        context = io.TlsContextOptions()
        context.override_default_trust_store_from_path(None, certificate)
        connection = io.ClientTlsContext(context).new_connection_options()
        options = {"tls_mode": s3.S3RequestTlsMode.ENABLED, "tls_connection_options": connection}
    signing = s3.create_default_s3_signing_config(region="us-east-1", credential_provider=keys)
    return s3.S3Client(
        bootstrap=bootstrap, region="us-east-1", signing_config=signing,
        part_size=8 * MIB, throughput_target_gbps=10, **options)


def main(address, directory, certificate=None):
    uploader = client(certificate)
    room, failed = threading.Semaphore(REQUESTS), []

    def done(error=None, **_):
        if error:
            failed.append(error)
        room.release()

    paths = [os.path.join(place, name) for place, _, names in os.walk(directory) for name in names]
    requests = []
    for path in sorted(paths):
        room.acquire()
        headers = http.HttpHeaders([
            ("Host", address),
            ("Content-Length", str(os.path.getsize(path))),
            ("Content-Type", "application/octet-stream"),
        ])
        key = "/bench/" + os.path.relpath(path, directory)
        request = http.HttpRequest("PUT", key, headers)
        made = uploader.make_request(
            type=s3.S3RequestType.PUT_OBJECT, request=request, send_filepath=path, on_done=done)
        requests.append(made.finished_future)
    for future in requests:
        future.result()
    sys.exit(str(failed[0]) if failed else 0)


if __name__ == "__main__":
    main(*sys.argv[1:])
