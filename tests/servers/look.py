"""Looks at a bucket with boto3: makes it, or prints what it holds as JSON.

usage: look.py make|list ENDPOINT ACCESS_KEY SECRET BUCKET
"""

import hashlib
import json
import sys

import boto3
from botocore.config import Config

what, endpoint, access_key, secret, bucket = sys.argv[1:]
client = boto3.client(
    "s3",
    endpoint_url=endpoint,
    aws_access_key_id=access_key,
    aws_secret_access_key=secret,
    region_name="us-east-1",
    config=Config(
        s3={"addressing_style": "path"},
        request_checksum_calculation="when_required",
        response_checksum_validation="when_required",
    ),
)
if what == "make":
    client.create_bucket(Bucket=bucket)
    sys.exit(0)
objects = []
for page in client.get_paginator("list_objects_v2").paginate(Bucket=bucket):
    for item in page.get("Contents", []):
        digest = hashlib.md5()
        size = 0
        for chunk in client.get_object(Bucket=bucket, Key=item["Key"])["Body"].iter_chunks(1 << 20):
            digest.update(chunk)
            size += len(chunk)
        objects.append({"key": item["Key"], "size": size, "md5": digest.hexdigest()})
uploads = client.list_multipart_uploads(Bucket=bucket).get("Uploads", [])
print(json.dumps({"objects": objects, "uploads": [upload["Key"] for upload in uploads]}))
