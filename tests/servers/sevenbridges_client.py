"""The vendor's own client against the sandbox: uploads in parts, looks, and compares.

usage: sevenbridges_client.py BASE_URL TOKEN PROJECT FILE
"""

import os
import sys

import sevenbridges

url, token, project, path = sys.argv[1:]
api = sevenbridges.Api(url=url, token=token, debug=True)
assert api.users.me().username, "the token is taken"
upload = api.files.upload(path, project=project, part_size=5 * 1024 * 1024, wait=True)
file = upload.result()
assert file.size == os.path.getsize(path), (file.size, os.path.getsize(path))
names = [item.name for item in api.files.query(project=project).all()]
assert names == [os.path.basename(path)], names
file.metadata["investigation"] = "novaseq"
file.tags = ["dropferry"]
file.save()
again = api.files.get(file.id)
assert again.metadata["investigation"] == "novaseq" and again.tags == ["dropferry"]
folder = api.files.create_folder("runs", project=project)
assert folder.is_folder()
print(file.id)
