"""Task definitions of the ECS double: families, revisions, tags, and what ECS refuses beyond its model."""

import copy

from .model import Refused

ACCOUNT, REGION = "123456789012", "us-east-1"
MOST_TAGS = 50
REGISTERED_BY = f"arn:aws:sts::{ACCOUNT}:assumed-role/deployer/session"


def arn(resource):
    """An ARN of ECS."""
    return f"arn:aws:ecs:{REGION}:{ACCOUNT}:{resource}"


def client_error(message):
    """The error by which ECS refuses most things."""
    return Refused("ClientException", message)


def invalid(message):
    """The other one."""
    return Refused("InvalidParameterException", message)


class Definitions:
    """All families."""

    def __init__(self, now):
        self.now = now
        # Family to its revisions, oldest first: each is (task definition, tags).
        self.families = {}

    def register(self, params):
        """RegisterTaskDefinition."""
        check(params)
        params = copy.deepcopy(params)
        is_tagged = "tags" in params
        tags = params.pop("tags", [])
        check_tags(tags, is_tagged)
        revisions = self.families.setdefault(params["family"], [])
        number = len(revisions) + 1
        definition = {
            "volumes": [],
            "placementConstraints": [],
            **params,
            "taskDefinitionArn": arn(f"task-definition/{params['family']}:{number}"),
            "revision": number,
            "status": "ACTIVE",
            "compatibilities": ["EC2", "FARGATE"] if fargate_fits(params) else ["EC2"],
            "requiresAttributes": [{"name": "com.amazonaws.ecs.capability.docker-remote-api.1.18"}],
            "registeredAt": self.now(),
            "registeredBy": REGISTERED_BY,
        }
        for container in definition["containerDefinitions"]:
            fill_container(container, definition.get("networkMode"))
        revisions.append((definition, tags))
        return {"taskDefinition": definition, "tags": tags}

    def find(self, name):
        """A revision by ARN, `family:revision` or family (its newest active one)."""
        name = name.rsplit("/", 1)[-1]
        family, _, number = name.partition(":")
        revisions = self.families.get(family, [])
        if number:
            found = [item for item in revisions if str(item[0]["revision"]) == number]
        else:
            found = [item for item in revisions if item[0]["status"] == "ACTIVE"][-1:]
        return found[0] if found else None

    def describe(self, params):
        """DescribeTaskDefinition."""
        found = self.find(params["taskDefinition"])
        if found is None:
            raise client_error("Unable to describe task definition.")
        definition, tags = found
        wants_tags = "TAGS" in params.get("include", [])
        return {"taskDefinition": definition, **({"tags": tags} if wants_tags else {})}

    def deregister(self, params):
        """DeregisterTaskDefinition: services that run it go on."""
        if ":" not in params["taskDefinition"].rsplit("/", 1)[-1]:
            raise invalid("Missing revision.")
        found = self.find(params["taskDefinition"])
        if found is None:
            raise client_error("The specified task definition does not exist.")
        found[0].update(status="INACTIVE", deregisteredAt=self.now())
        return {"taskDefinition": found[0]}

    def list(self, params):
        """ListTaskDefinitions: `familyPrefix` is a whole family, whatever its name."""
        family, status = params.get("familyPrefix"), params.get("status", "ACTIVE")
        chosen = {family: self.families.get(family, [])} if family else self.families
        definitions = [item[0] for revisions in chosen.values() for item in revisions]
        definitions = [item for item in definitions if item["status"] == status]
        definitions.sort(key=lambda item: (item["family"], item["revision"]), reverse=params.get("sort") == "DESC")
        page, token = paged(definitions, params)
        answer = {"taskDefinitionArns": [item["taskDefinitionArn"] for item in page]}
        return {**answer, "nextToken": token} if token else answer


def paged(items, params):
    """One page and the token of the next."""
    size, start = params.get("maxResults", 100), int(params.get("nextToken", 0))
    if not 1 <= size <= 100:
        raise invalid("maxResults has to be between 1 and 100")
    following = start + size
    return items[start:following], str(following) if following < len(items) else None


def fargate_fits(params):
    """Whether Fargate would run it."""
    return params.get("networkMode") == "awsvpc" and "cpu" in params and "memory" in params


def fill_container(container, network_mode):
    """Defaults that ECS writes into a container's definition."""
    container.setdefault("cpu", 0)
    container.setdefault("essential", True)
    for name in ("portMappings", "environment", "mountPoints", "volumesFrom", "systemControls"):
        container.setdefault(name, [])
    for mapping in container["portMappings"]:
        mapping.setdefault("protocol", "tcp")
        if network_mode in ("awsvpc", "host") and "containerPort" in mapping:
            mapping.setdefault("hostPort", mapping["containerPort"])


def check(params):
    """What ECS refuses although the model allows it."""
    containers = params["containerDefinitions"]
    if not containers:
        raise client_error("Container list cannot be empty.")
    names = [container.get("name") for container in containers]
    if None in names or "" in names or len(set(names)) != len(names):
        raise client_error("Container.name must be given and unique.")
    if not any(container.get("essential", True) for container in containers):
        raise client_error("Task definition must have at least one essential container.")
    for container in containers:
        check_container(container, params, names)
    if "FARGATE" in params.get("requiresCompatibilities", []) and not fargate_fits(params):
        raise client_error("Fargate requires task definition to have cpu and memory, and network mode awsvpc.")
    proxy = params.get("proxyConfiguration")
    if proxy and proxy["containerName"] not in names:
        raise client_error(f"Proxy configuration names a container that is not there: {proxy['containerName']}")


def check_container(container, params, names):
    """One container of it."""
    if not container.get("image"):
        raise client_error("Container.image should not be null or empty.")
    if not {"memory", "memoryReservation"} & container.keys() and "memory" not in params:
        text = "At least one of 'memory' or 'memoryReservation' must be specified."
        raise client_error(f"Invalid setting for container. {text}")
    with_check = {item["name"] for item in params["containerDefinitions"] if "healthCheck" in item}
    for dependency in container.get("dependsOn", []):
        other = dependency["containerName"]
        if other not in names or other == container["name"]:
            raise client_error(f"Invalid dependsOn: {other}")
        if dependency["condition"] == "HEALTHY" and other not in with_check:
            raise client_error(f"A container depends on {other} being HEALTHY, which has no health check.")


def check_tags(tags, given):
    """What ECS refuses of tags."""
    if given and not tags:
        raise invalid("Tags can not be empty.")
    if len(tags) > MOST_TAGS:
        raise invalid(f"The number of tags exceeds {MOST_TAGS}.")
    keys = [tag.get("key") for tag in tags]
    if None in keys or len(set(keys)) != len(keys):
        raise invalid("Tag keys must be given and unique.")
    if any(key.lower().startswith("aws:") for key in keys):
        raise invalid("Tag keys that begin with aws: are reserved.")
