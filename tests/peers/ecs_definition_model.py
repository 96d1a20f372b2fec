"""What botocore's model says of ECS task definitions, as JSON on stdout, for `tests/it/ecs/model.rs`.

`described`: members of a described task definition; `registered`: members of a registration; `sample`: a registration
in which every member of the model has a value, all the way down.
"""

import json

import botocore.session

MODEL = botocore.session.get_session().get_service_model("ecs")


def fill(shape, name):
    """A value of a shape with everything in it."""
    kind = shape.type_name
    if kind == "structure":
        return {member: fill(inner, member) for member, inner in shape.members.items()}
    if kind == "list":
        return [fill(shape.member, name)]
    if kind == "map":
        return {f"{name}-key": fill(shape.value, name)}
    if kind == "string":
        return shape.enum[0] if shape.enum else f"some-{name}"
    if kind == "boolean":
        return True
    if kind in ("integer", "long"):
        return max(1, shape.metadata.get("min", 1))
    raise ValueError(f"{name}: no value for a {kind}")


def sample():
    """A registration with everything, in which names fit each other."""
    request = fill(MODEL.operation_model("RegisterTaskDefinition").input_shape, "x")
    app = request["containerDefinitions"][0]
    envoy = json.loads(json.dumps(app))
    app.update(name="app", dependsOn=[{"containerName": "envoy", "condition": "START"}])
    envoy.update(name="envoy", image="envoy:1", dependsOn=[])
    request["containerDefinitions"].append(envoy)
    request["proxyConfiguration"]["containerName"] = "envoy"
    request.update(family="everything", networkMode="awsvpc")
    return request


def main():
    described = MODEL.shape_for("TaskDefinition").members
    registered = MODEL.operation_model("RegisterTaskDefinition").input_shape.members
    print(json.dumps({"described": list(described), "registered": list(registered), "sample": sample()}))


if __name__ == "__main__":
    main()
