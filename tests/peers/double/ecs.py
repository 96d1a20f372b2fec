"""Amazon ECS, as far as services that run tasks need it: clusters, task definitions, services, deployments, tasks.

The state moves on by steps (`ecs_tasks.Scheduler`): by `POST /_double/ecs/advance {"steps": n}`, or one step with each
DescribeServices once `POST /_double/ecs/settings {"step_by_describe": true}` was asked for.
"""

import copy
import datetime
import itertools

from .ecs_definitions import ACCOUNT, Definitions, arn, client_error, invalid, paged
from .ecs_tasks import Scheduler
from .model import Refused, Service

MOST_DESCRIBED_SERVICES, MOST_DESCRIBED_TASKS = 10, 100
# Members of CreateService and UpdateService that are kept as they were given.
KEPT = (
    "capacityProviderStrategy",
    "deploymentConfiguration",
    "enableECSManagedTags",
    "enableExecuteCommand",
    "healthCheckGracePeriodSeconds",
    "loadBalancers",
    "networkConfiguration",
    "placementConstraints",
    "placementStrategy",
    "platformVersion",
    "propagateTags",
    "serviceRegistries",
)
BEGINNING = datetime.datetime(2026, 1, 1, tzinfo=datetime.timezone.utc)


class Ecs:
    """The service."""

    def __init__(self):
        self.wire = Service("ecs")
        self.numbers = itertools.count(1)
        self.ticks = itertools.count()
        self.definitions = Definitions(self.now)
        self.clusters = {}
        # (cluster, name) to service.
        self.services = {}
        self.tasks = []
        # Steps that a task has been running for, by its ARN.
        self.ages = {}
        self.scheduler = Scheduler(self)
        self.step_by_describe = False
        self.operations = {
            "CreateCluster": self.create_cluster,
            "RegisterTaskDefinition": self.definitions.register,
            "DescribeTaskDefinition": self.definitions.describe,
            "DeregisterTaskDefinition": self.definitions.deregister,
            "ListTaskDefinitions": self.definitions.list,
            "CreateService": self.create_service,
            "UpdateService": self.update_service,
            "DescribeServices": self.describe_services,
            "DeleteService": self.delete_service,
            "ListTasks": self.list_tasks,
            "DescribeTasks": self.describe_tasks,
            "StopTask": self.stop_task,
        }
        self.control = {
            "advance": self.advance,
            "behave": self.scheduler.behaviours.add,
            "running": self.running,
            "settings": self.settings,
            "system_tag": self.system_tag,
        }

    # --- control

    def before(self, operation):
        """Called before each operation."""
        if operation == "DescribeServices" and self.step_by_describe:
            self.scheduler.step()

    def advance(self, value):
        """So many steps."""
        for _ in range(value.get("steps", 1)):
            self.scheduler.step()

    def settings(self, value):
        """How the state moves on."""
        self.step_by_describe = value.get("step_by_describe", self.step_by_describe)

    def running(self, _):
        """Images of the first container of each running task, by service: what a data plane would find there."""
        tasks = {name: self.tasks_of(service) for (_, name), service in self.services.items()}
        return {
            name: [task["containers"][0]["image"] for task in found if task["lastStatus"] == "RUNNING"]
            for name, found in tasks.items()
        }

    def system_tag(self, value):
        """Tags that AWS itself puts on a task definition (`aws:…`), and nobody else can."""
        self.definitions.find(value["taskDefinition"])[1].append({"key": value["key"], "value": value["value"]})

    def now(self):
        """A clock that only counts: each look is a millisecond later."""
        return BEGINNING + datetime.timedelta(milliseconds=next(self.ticks))

    def uuid(self):
        """An identifier that no other thing has."""
        return f"{next(self.numbers):032x}"

    # --- clusters and services

    def create_cluster(self, params):
        """CreateCluster."""
        name = params.get("clusterName", "default")
        self.clusters[name] = {"clusterName": name, "clusterArn": arn(f"cluster/{name}"), "status": "ACTIVE"}
        return {"cluster": self.clusters[name]}

    def cluster(self, params):
        """The cluster that a call names."""
        name = params.get("cluster", "default").rsplit("/", 1)[-1]
        if name not in self.clusters:
            raise Refused("ClusterNotFoundException", "Cluster not found.")
        return name

    def service(self, params, name):
        """A service, or None."""
        return self.services.get((self.cluster(params), name.rsplit("/", 1)[-1]))

    def active_service(self, params):
        """A service that can be changed."""
        service = self.service(params, params["service"])
        if service is None:
            raise Refused("ServiceNotFoundException", "Service not found.")
        if service["status"] != "ACTIVE":
            raise Refused("ServiceNotActiveException", "Service was not ACTIVE.")
        return service

    def runnable(self, name):
        """ARN of a task definition that a service may take."""
        found = self.definitions.find(name)
        if found is None:
            raise client_error("TaskDefinition not found.")
        if found[0]["status"] != "ACTIVE":
            raise client_error("TaskDefinition is inactive")
        return found[0]["taskDefinitionArn"]

    def create_service(self, params):
        """CreateService."""
        cluster, name = self.cluster(params), params["serviceName"]
        before = self.services.get((cluster, name))
        if before is not None and before["status"] != "INACTIVE":
            raise invalid("Creation of service was not idempotent.")
        definition = self.runnable(params.get("taskDefinition", ""))
        network = self.definitions.find(definition)[0].get("networkMode")
        if (network == "awsvpc") != ("networkConfiguration" in params):
            raise invalid("Network Configuration goes with networkMode 'awsvpc', and only with that.")
        service = {
            "serviceArn": arn(f"service/{cluster}/{name}"),
            "serviceName": name,
            "clusterArn": self.clusters[cluster]["clusterArn"],
            "loadBalancers": [],
            "serviceRegistries": [],
            "status": "ACTIVE",
            "desiredCount": params.get("desiredCount", 0),
            "runningCount": 0,
            "pendingCount": 0,
            "launchType": params.get("launchType", "EC2"),
            "taskDefinition": definition,
            "deployments": [],
            "events": [],
            "createdAt": self.now(),
            "placementConstraints": [],
            "placementStrategy": [],
            "schedulingStrategy": params.get("schedulingStrategy", "REPLICA"),
            "deploymentController": params.get("deploymentController", {"type": "ECS"}),
            "createdBy": f"arn:aws:iam::{ACCOUNT}:role/deployer",
            "enableECSManagedTags": False,
            "propagateTags": "NONE",
            "enableExecuteCommand": False,
            "deploymentConfiguration": {"maximumPercent": 200, "minimumHealthyPercent": 100},
        }
        service.update({key: copy.deepcopy(params[key]) for key in KEPT if key in params})
        self.services[cluster, name] = service
        self.deploy(service)
        return {"service": service}

    def deploy(self, service):
        """Begins a deployment of what the service is to run."""
        for deployment in service["deployments"]:
            deployment["status"] = "ACTIVE"
        now, number = self.now(), next(self.numbers)
        deployment = {
            "id": f"ecs-svc/{number:019d}",
            "status": "PRIMARY",
            "taskDefinition": service["taskDefinition"],
            "desiredCount": service["desiredCount"],
            "pendingCount": 0,
            "runningCount": 0,
            "failedTasks": 0,
            "createdAt": now,
            "updatedAt": now,
            "launchType": service["launchType"],
            "rolloutState": "IN_PROGRESS",
            "rolloutStateReason": f"ECS deployment ecs-svc/{number:019d} in progress.",
        }
        service["deployments"].insert(0, deployment)
        return deployment

    def update_service(self, params):
        """UpdateService: another task definition, or force, begins a deployment; a count alone does not."""
        service = self.active_service(params)
        controller = service["deploymentController"]["type"]
        if controller != "ECS" and {"taskDefinition", "forceNewDeployment"} & params.keys():
            raise invalid(f"Unable to update task definition on services with a {controller} deployment controller.")
        if service["schedulingStrategy"] == "DAEMON" and "desiredCount" in params:
            raise invalid("The daemon scheduling strategy does not support a desired count for services.")
        if params.get("desiredCount", 0) < 0:
            raise invalid("Desired count can not be negative.")
        wanted = self.runnable(params["taskDefinition"]) if "taskDefinition" in params else service["taskDefinition"]
        service["desiredCount"] = params.get("desiredCount", service["desiredCount"])
        service.update({key: copy.deepcopy(params[key]) for key in KEPT if key in params})
        is_new = wanted != service["taskDefinition"] or params.get("forceNewDeployment", False)
        service["taskDefinition"] = wanted
        if is_new:
            self.deploy(service)
        service["deployments"][0].update(desiredCount=service["desiredCount"], updatedAt=self.now())
        return {"service": service}

    def describe_services(self, params):
        """DescribeServices."""
        if not params["services"]:
            raise invalid("Services cannot be empty.")
        if len(params["services"]) > MOST_DESCRIBED_SERVICES:
            raise invalid(f"Services cannot have more than {MOST_DESCRIBED_SERVICES} elements")
        cluster = self.cluster(params)
        found = [(name, self.service(params, name)) for name in params["services"]]
        missing = [arn(f"service/{cluster}/{name}") for name, service in found if service is None]
        return {
            "services": [service for _, service in found if service is not None],
            "failures": [{"arn": item, "reason": "MISSING"} for item in missing],
        }

    def delete_service(self, params):
        """DeleteService: it drains, and is INACTIVE once its tasks have stopped."""
        service = self.active_service(params)
        if service["desiredCount"] > 0 and not params.get("force", False):
            raise invalid("The service cannot be stopped while it is scaled above 0.")
        service.update(status="DRAINING", desiredCount=0)
        for deployment in service["deployments"]:
            deployment["desiredCount"] = 0
            for task in self.scheduler.of(service, deployment):
                self.scheduler.ask_to_stop(task, deployment)
        return {"service": service}

    # --- tasks

    def tasks_of(self, service):
        """Every task of a service that is still known."""
        group = f"service:{service['serviceName']}"
        return [task for task in self.tasks if (task["group"], task["clusterArn"]) == (group, service["clusterArn"])]

    def new_task(self, service, deployment, definition):
        """Makes a task."""
        cluster, identifier = service["clusterArn"].rsplit("/", 1)[-1], self.uuid()
        task_arn = arn(f"task/{cluster}/{identifier}")
        containers = [
            {
                "containerArn": arn(f"container/{cluster}/{identifier}/{self.uuid()}"),
                "taskArn": task_arn,
                "name": item["name"],
                "image": item["image"],
                "lastStatus": "PENDING",
                "networkInterfaces": [],
                "healthStatus": "UNKNOWN",
                "cpu": str(item["cpu"]),
            }
            for item in definition["containerDefinitions"]
        ]
        task = {
            "taskArn": task_arn,
            "clusterArn": service["clusterArn"],
            "taskDefinitionArn": definition["taskDefinitionArn"],
            "group": f"service:{service['serviceName']}",
            "startedBy": deployment["id"],
            "launchType": service["launchType"],
            "lastStatus": "PROVISIONING",
            "desiredStatus": "RUNNING",
            "healthStatus": "UNKNOWN",
            "createdAt": self.now(),
            "containers": containers,
            "version": 1,
        }
        self.tasks.append(task)
        return task

    def list_tasks(self, params):
        """ListTasks: by what tasks are meant to be, which is RUNNING unless it is said."""
        cluster = self.clusters[self.cluster(params)]["clusterArn"]
        tasks = [task for task in self.tasks if task["clusterArn"] == cluster]
        if "serviceName" in params:
            service = self.service(params, params["serviceName"])
            if service is None:
                raise Refused("ServiceNotFoundException", "Service not found.")
            tasks = self.tasks_of(service)
        wanted = params.get("desiredStatus", "RUNNING")
        tasks = [task for task in tasks if task["desiredStatus"] == wanted]
        page, token = paged(list(reversed(tasks)), params)
        answer = {"taskArns": [task["taskArn"] for task in page]}
        return {**answer, "nextToken": token} if token else answer

    def describe_tasks(self, params):
        """DescribeTasks."""
        self.cluster(params)
        if not params["tasks"]:
            raise invalid("Tasks cannot be empty.")
        if len(params["tasks"]) > MOST_DESCRIBED_TASKS:
            raise invalid(f"Tasks cannot have more than {MOST_DESCRIBED_TASKS} elements")
        known = {task["taskArn"]: task for task in self.tasks}
        missing = [name for name in params["tasks"] if name not in known]
        return {
            "tasks": [known[name] for name in params["tasks"] if name in known],
            "failures": [{"arn": name, "reason": "MISSING"} for name in missing],
        }

    def stop_task(self, params):
        """StopTask."""
        self.cluster(params)
        task = next((item for item in self.tasks if item["taskArn"].endswith(params["task"])), None)
        if task is None:
            raise invalid("The referenced task was not found.")
        reason = params.get("reason", "Task stopped by user")
        task.update(desiredStatus="STOPPED", stopCode="UserInitiated", stoppedReason=reason)
        return {"task": task}
