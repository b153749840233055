"""boto3 against the sandbox's S3 stand-in: an upload in parts, conditions, pages, and back.

usage: boto.py ENDPOINT ACCESS_KEY SECRET BUCKET FILE
"""

import sys

import boto3
from boto3.s3.transfer import TransferConfig
from botocore.config import Config
from botocore.exceptions import ClientError

endpoint, access_key, secret, bucket, path = sys.argv[1:]
config = Config(
    s3={"addressing_style": "path"},
    request_checksum_calculation="when_required",
    response_checksum_validation="when_required",
)


def connect(secret):
    return boto3.client(
        "s3",
        endpoint_url=endpoint,
        aws_access_key_id=access_key,
        aws_secret_access_key=secret,
        region_name="us-east-1",
        config=config,
    )


def refused(code, call):
    try:
        call()
    except ClientError as error:
        assert error.response["Error"]["Code"] in (code, error.response["ResponseMetadata"]["HTTPStatusCode"]), error
        return
    raise AssertionError(f"{code} was expected")


client = connect(secret)
key = "by boto/a b+c#%&'.bin"
mib = 1024 * 1024
client.upload_file(path, bucket, key, Config=TransferConfig(multipart_threshold=5 * mib, multipart_chunksize=5 * mib))
with open(path, "rb") as file:
    content = file.read()
assert client.get_object(Bucket=bucket, Key=key)["Body"].read() == content
client.download_file(bucket, key, path + ".back", Config=TransferConfig(multipart_threshold=5 * mib, multipart_chunksize=5 * mib))
with open(path + ".back", "rb") as file:
    assert file.read() == content
head = client.head_object(Bucket=bucket, Key=key)
assert head["ETag"].strip('"').endswith(f"-{-(-len(content) // (5 * mib))}"), head["ETag"]
assert [item["Key"] for item in client.list_objects_v2(Bucket=bucket)["Contents"]] == [key]
odd = "by boto/\x01 \u00fc+%41\\\n.bin"
client.put_object(Bucket=bucket, Key=odd, Body=b"odd")
assert sorted(item["Key"] for item in client.list_objects_v2(Bucket=bucket)["Contents"]) == sorted([key, odd])
refused("PreconditionFailed", lambda: client.put_object(Bucket=bucket, Key=key, Body=b"x", IfNoneMatch="*"))
refused("SignatureDoesNotMatch", lambda: connect("wrong").put_object(Bucket=bucket, Key="k", Body=b"x"))
upload = client.create_multipart_upload(Bucket=bucket, Key="open")["UploadId"]
part = client.upload_part(Bucket=bucket, Key="open", UploadId=upload, PartNumber=1, Body=b"x" * 10)
assert [part["PartNumber"] for part in client.list_parts(Bucket=bucket, Key="open", UploadId=upload)["Parts"]] == [1]
assert [item["Key"] for item in client.list_multipart_uploads(Bucket=bucket)["Uploads"]] == ["open"]
wrong = {"Parts": [{"PartNumber": 1, "ETag": '"' + "0" * 32 + '"'}]}
refused("InvalidPart", lambda: client.complete_multipart_upload(Bucket=bucket, Key="open", UploadId=upload, MultipartUpload=wrong))
client.abort_multipart_upload(Bucket=bucket, Key="open", UploadId=upload)
refused("NoSuchUpload", lambda: client.list_parts(Bucket=bucket, Key="open", UploadId=upload))
