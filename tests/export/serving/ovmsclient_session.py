"""Run by a Python that has ovmsclient and nothing of ours: asks a server by gRPC and HTTP, prints JSON."""

from __future__ import annotations

import json
import sys

import ovmsclient


def main(grpc_address: str, rest_address: str, image_path: str) -> None:
    image = open(image_path, "rb").read()
    for client in (ovmsclient.make_grpc_client(grpc_address), ovmsclient.make_http_client(rest_address)):
        # Its default, version 0, means the newest to its own server only.
        status = client.get_model_status(model_name="small", model_version=1)
        metadata = client.get_model_metadata(model_name="small", model_version=1)
        # By HTTP it hands on the server's JSON as it is.
        signatures = metadata.get("metadata", {}).get("signature_def", {}).get("signature_def")
        inputs = signatures["serving_default"]["inputs"] if signatures else metadata["inputs"]
        answer = client.predict(inputs={"image_bytes": [image]}, model_name="small", model_version=1)
        try:
            client.get_model_status(model_name="none")
            missing = None
        except Exception as error:  # noqa: BLE001 - its name is the answer
            missing = type(error).__name__
        said = {
            "states": {str(version): row["state"] for version, row in status.items()},
            "inputs": {name: row["dtype"] for name, row in inputs.items()},
            "probabilities": [[float(value) for value in row] for row in answer["probabilities"]],
            "missing": missing,
        }
        print(json.dumps(said))


if __name__ == "__main__":
    main(*sys.argv[1:])
