"""What Triton's and KServe's own clients see of a predictor: run in `.venv-clients`, never imported by a test.

    python v2_clients.py CLIENT URL CALLS

CLIENT is `tritonclient`, `tritonclient.aio` or `kserve`; CALLS a JSON list of [method, arguments]. Prints a JSON list
with what each call returned, or {"error": message, "status": …} of what it raised. Of `infer` the tensors are spelt as
{"name", "datatype", "data", "binary"}, the outputs as {"name", "binary"}.
"""

from __future__ import annotations

import asyncio
import inspect
import json
import sys
from typing import Any

import numpy as np

DTYPES = {"FP32": np.float32, "BYTES": np.object_}


async def _made(value: Any) -> Any:
    return await value if inspect.isawaitable(value) else value


def _triton_tensors(module: Any, inputs: list[dict[str, Any]], outputs: list[dict[str, Any]] | None) -> Any:
    tensors = []
    for given in inputs:
        array = np.array(given["data"], DTYPES[given["datatype"]])
        tensor = module.InferInput(given["name"], list(array.shape), given["datatype"])
        tensor.set_data_from_numpy(array, binary_data=given.get("binary", True))
        tensors.append(tensor)
    return tensors, outputs and [module.InferRequestedOutput(o["name"], binary_data=o["binary"]) for o in outputs]


async def _triton(module: Any, url: str, calls: list[Any]) -> list[Any]:
    from tritonclient.utils import InferenceServerException

    client = module.InferenceServerClient(url.removeprefix("http://"))
    told = []
    for method, arguments in calls:
        try:
            if method == "infer":
                inputs, outputs = _triton_tensors(module, arguments.pop("inputs"), arguments.pop("outputs", None))
                result = await _made(client.infer("flights", inputs, outputs=outputs, **arguments))
                response = result.get_response()
                names = [output["name"] for output in response["outputs"]]
                raw = [name for name in names if "data" not in result.get_output(name)]
                told.append(
                    {
                        "arrays": {name: result.as_numpy(name).tolist() for name in names},
                        "raw": raw,
                        "id": response.get("id"),
                    }
                )
            else:
                told.append(await _made(getattr(client, method)(**arguments)))
        except InferenceServerException as e:
            told.append({"error": e.message(), "status": e.status()})
    await _made(client.close())
    return told


async def _kserve(url: str, calls: list[Any]) -> list[Any]:
    import httpx
    from kserve import InferenceRESTClient, InferInput, InferRequest, RESTConfig
    from kserve.protocol.infer_type import RequestedOutput

    client = InferenceRESTClient(RESTConfig(protocol="v2"))
    told: list[Any] = []
    for method, arguments in calls:
        try:
            if method == "infer":
                inputs = []
                for given in arguments["inputs"]:
                    array = np.array(given["data"], DTYPES[given["datatype"]])
                    tensor = InferInput(given["name"], list(array.shape), given["datatype"])
                    tensor.set_data_from_numpy(array, binary_data=given["binary"])
                    inputs.append(tensor)
                outputs = [RequestedOutput(o["name"], {"binary_data": o["binary"]}) for o in arguments["outputs"]]
                request = InferRequest("flights", inputs, request_outputs=outputs)
                headers: dict[str, str] = {}
                answer = await client.infer(url, request, model_name="flights", response_headers=headers)
                names = [output.name for output in answer.outputs]
                told.append(
                    {
                        "arrays": {name: answer.get_output_by_name(name).as_numpy().tolist() for name in names},
                        "type": headers["content-type"],
                    }
                )
            else:
                told.append(await getattr(client, method)(url, **arguments))
        except httpx.HTTPStatusError as e:
            told.append({"error": str(e), "status": e.response.status_code})
    await client.close()
    return told


def main() -> None:
    client, url, calls = sys.argv[1], sys.argv[2], json.loads(sys.argv[3])
    if client == "kserve":
        told = asyncio.run(_kserve(url, calls))
    elif client == "tritonclient.aio":
        import tritonclient.http.aio as module

        told = asyncio.run(_triton(module, url, calls))
    else:
        import tritonclient.http as module

        told = asyncio.run(_triton(module, url, calls))
    print(json.dumps(told))


if __name__ == "__main__":
    main()
