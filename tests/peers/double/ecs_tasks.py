"""Tasks and deployments of the ECS double: what the scheduler does in one step. Time is counted in steps.

Each step moves every task one state on, then lets the scheduler of each service start and stop tasks. What a task does
is decided by the images of its containers (`Behaviours`).
"""

import fnmatch
import math

NO_INSTANCE = (
    "(service {service}) was unable to place a task because no container instance met all of its requirements. "
    "The closest matching (container-instance 0123456789abcdef0) has insufficient memory available."
)
NO_FARGATE = "Capacity is unavailable at this time. Please try again later or in a different availability zone"
# ECS's own bounds of the circuit breaker's threshold.
FEWEST_FAILURES, MOST_FAILURES = 3, 200


class Behaviours:
    """What tasks do, by their images: the first rule of which the pattern matches one of them.

    Kinds: `healthy`; `crash` (`after` steps of running, `exit_code`); `cannot_pull`; `never_healthy` (its container
    checks fail, and it is replaced); `never_checked` (its checks never come to a result); `stuck` (stays PENDING);
    `no_capacity` (no container instance has room); `no_fargate_capacity`.
    """

    def __init__(self):
        self.rules = []

    def add(self, rule):
        """Adds a rule before the others."""
        self.rules.insert(0, rule)

    def of(self, definition):
        """The rule for a task definition and the container that it is about."""
        for rule in self.rules:
            for container in definition["containerDefinitions"]:
                if fnmatch.fnmatchcase(container["image"], rule["image"]):
                    return rule, container
        return {"kind": "healthy"}, definition["containerDefinitions"][0]


class Scheduler:
    """Moves tasks and deployments on."""

    def __init__(self, ecs):
        self.ecs = ecs
        self.behaviours = Behaviours()

    def step(self):
        """One step of everything."""
        for service in list(self.ecs.services.values()):
            for task in [task for task in self.ecs.tasks_of(service) if task["lastStatus"] != "STOPPED"]:
                self.move(service, task)
            if service["status"] == "DRAINING" and not self.running(service):
                service["status"] = "INACTIVE"
            if service["status"] == "ACTIVE":
                self.schedule(service)
            self.count(service)

    def running(self, service):
        """Tasks that have not stopped."""
        return [task for task in self.ecs.tasks_of(service) if task["lastStatus"] != "STOPPED"]

    # --- tasks

    def start(self, service, deployment):
        """Starts a task of a deployment, or says that there is no room."""
        definition = self.ecs.definitions.find(deployment["taskDefinition"])[0]
        rule, _ = self.behaviours.of(definition)
        if rule["kind"] == "no_capacity":
            self.event(service, NO_INSTANCE.format(service=service["serviceName"]))
            deployment["failedTasks"] += 1
            return False
        task = self.ecs.new_task(service, deployment, definition)
        if rule["kind"] == "no_fargate_capacity":
            self.event(service, f"(service {service['serviceName']}) was unable to place a task. Reason: {NO_FARGATE}.")
            deployment["failedTasks"] += 1
            self.stop(task, "TaskFailedToStart", NO_FARGATE)
            return False
        return True

    def move(self, service, task):
        """Moves a task one state on."""
        definition = self.ecs.definitions.find(task["taskDefinitionArn"])[0]
        rule, container = self.behaviours.of(definition)
        deployment = next((item for item in service["deployments"] if item["id"] == task["startedBy"]), None)
        if task["desiredStatus"] == "STOPPED":
            self.stop(task, task["stopCode"], task["stoppedReason"])
        elif task["lastStatus"] == "PROVISIONING":
            self.set_status(task, "PENDING")
        elif task["lastStatus"] == "PENDING":
            self.pull(task, rule, container, deployment)
        else:
            self.run(service, task, rule, container, deployment)

    def pull(self, task, rule, container, deployment):
        """A task whose images are pulled."""
        if rule["kind"] == "cannot_pull":
            text = f"CannotPullContainerError: pull image manifest has been retried 1 time(s): failed to resolve ref "
            reason = f"{text}{container['image']}: not found"
            self.fail(deployment)
            self.stop(task, "TaskFailedToStart", reason, container["name"], None, reason)
        elif rule["kind"] == "crash" and rule.get("after", 1) == 0:
            self.fail(deployment)
            self.exit(task, rule, container)
        elif rule["kind"] != "stuck":
            self.set_status(task, "RUNNING")
            task["startedAt"] = self.ecs.now()

    def run(self, service, task, rule, container, deployment):
        """A task that runs."""
        age = self.ecs.ages[task["taskArn"]] = self.ecs.ages.get(task["taskArn"], 0) + 1
        if rule["kind"] == "crash" and age >= rule.get("after", 1):
            self.exit(task, rule, container)
        elif rule["kind"] == "never_checked":
            return
        elif rule["kind"] == "never_healthy":
            self.set_health(task, "UNHEALTHY")
            if age > 1:
                self.fail(deployment)
                text = f"(service {service['serviceName']}) (task {short(task)}) failed container health checks."
                self.event(service, text)
                self.stop(task, "ServiceSchedulerInitiated", "Task failed container health checks")
        else:
            self.set_health(task, "HEALTHY")

    @staticmethod
    def fail(deployment):
        """Counts a failed task: one that never ran, or that its checks ended."""
        if deployment is not None:
            deployment["failedTasks"] += 1

    def exit(self, task, rule, container):
        """A container ends by itself."""
        code = rule.get("exit_code", 1)
        reason = "OutOfMemoryError: Container killed due to memory usage" if code == 137 else None
        text = "Essential container in task exited"
        self.stop(task, "EssentialContainerExited", text, container["name"], code, reason)

    def stop(self, task, code, reason, container=None, exit_code=None, container_reason=None):
        """A task ends."""
        task.update(stopCode=code, stoppedReason=reason, desiredStatus="STOPPED", stoppedAt=self.ecs.now())
        self.set_status(task, "STOPPED")
        for item in task["containers"]:
            if item["name"] != container:
                # Whoever is stopped with the others ends by their SIGTERM.
                item["exitCode"] = 143
                continue
            if exit_code is not None:
                item["exitCode"] = exit_code
            if container_reason is not None:
                item["reason"] = container_reason

    @staticmethod
    def set_status(task, status):
        task["lastStatus"] = status
        for container in task["containers"]:
            container["lastStatus"] = status

    def set_health(self, task, status):
        """A task without checks stays UNKNOWN."""
        definition = self.ecs.definitions.find(task["taskDefinitionArn"])[0]
        checked = {item["name"] for item in definition["containerDefinitions"] if "healthCheck" in item}
        essential = {item["name"] for item in definition["containerDefinitions"] if item["essential"]}
        for container in task["containers"]:
            if container["name"] in checked:
                container["healthStatus"] = status
        if checked & essential:
            task["healthStatus"] = status

    # --- deployments

    def schedule(self, service):
        """Starts and stops tasks as the deployments want it."""
        primary = service["deployments"][0]
        mine = self.of(service, primary)
        for task in mine[primary["desiredCount"] :]:
            self.ask_to_stop(task, primary)
        for _ in range(primary["desiredCount"] - len(mine)):
            if not self.start(service, primary):
                break
        mine = self.of(service, primary)
        up = [task for task in mine if task["lastStatus"] == "RUNNING" and task["healthStatus"] != "UNHEALTHY"]
        checked = [task for task in up if self.is_checked(task)]
        if len(checked) >= primary["desiredCount"]:
            self.retire_old(service, primary)
        self.break_circuit(service, primary)

    def of(self, service, deployment):
        """A deployment's tasks that are meant to run."""
        tasks = self.ecs.tasks_of(service)
        return [task for task in tasks if task["startedBy"] == deployment["id"] and task["desiredStatus"] == "RUNNING"]

    def is_checked(self, task):
        """Whether its health checks, if it has any, have passed."""
        definition = self.ecs.definitions.find(task["taskDefinitionArn"])[0]
        has_check = any("healthCheck" in item and item["essential"] for item in definition["containerDefinitions"])
        return not has_check or task["healthStatus"] == "HEALTHY"

    @staticmethod
    def ask_to_stop(task, deployment):
        """Ends in the next step."""
        reason = f"Scaling activity initiated by (deployment {deployment['id']})"
        task.update(desiredStatus="STOPPED", stopCode="ServiceSchedulerInitiated", stoppedReason=reason)

    def retire_old(self, service, primary):
        """The primary deployment is up: older ones end, and it is completed when they have."""
        left = False
        for deployment in service["deployments"][1:]:
            for task in self.of(service, deployment):
                self.ask_to_stop(task, deployment)
            left = left or any(task["startedBy"] == deployment["id"] for task in self.running(service))
        if not left:
            del service["deployments"][1:]
            if primary["rolloutState"] == "IN_PROGRESS":
                text = f"ECS deployment {primary['id']} completed."
                primary.update(rolloutState="COMPLETED", rolloutStateReason=text)
                self.event(service, f"(service {service['serviceName']}) has reached a steady state.")

    def break_circuit(self, service, primary):
        """Gives a deployment up that fails again and again, where the service asks for that."""
        breaker = service["deploymentConfiguration"].get("deploymentCircuitBreaker", {})
        threshold = min(max(FEWEST_FAILURES, math.ceil(primary["desiredCount"] / 2)), MOST_FAILURES)
        is_due = primary["rolloutState"] == "IN_PROGRESS" and primary["failedTasks"] >= threshold
        if not (breaker.get("enable") and is_due):
            return
        text = "ECS deployment circuit breaker: tasks failed to start."
        primary.update(rolloutState="FAILED", rolloutStateReason=text)
        name = f"(service {service['serviceName']}) (deployment {primary['id']})"
        self.event(service, f"{name} deployment failed: tasks failed to start.")
        before = next((item for item in service["deployments"][1:] if item["rolloutState"] == "COMPLETED"), None)
        if breaker.get("rollback") and before is not None:
            service["taskDefinition"] = before["taskDefinition"]
            again = self.ecs.deploy(service)
            text = f"ECS deployment circuit breaker: rolling back to deploymentId {again['id']}."
            again["rolloutStateReason"] = text
            primary["desiredCount"] = 0
            for task in self.of(service, primary):
                self.ask_to_stop(task, primary)
            self.event(service, f"(service {service['serviceName']}) rolling back to deployment {again['id']}.")

    def event(self, service, message):
        """Newest first, and ECS keeps 100."""
        event = {"id": self.ecs.uuid(), "createdAt": self.ecs.now(), "message": message}
        service["events"] = [event, *service["events"]][:100]

    def count(self, service):
        """Writes the counts of tasks into the service and its deployments."""
        tasks = self.running(service)
        for item in service["deployments"]:
            own = [task for task in tasks if task["startedBy"] == item["id"]]
            item["runningCount"] = sum(task["lastStatus"] == "RUNNING" for task in own)
            item["pendingCount"] = sum(task["lastStatus"] in ("PROVISIONING", "PENDING") for task in own)
        service["runningCount"] = sum(task["lastStatus"] == "RUNNING" for task in tasks)
        service["pendingCount"] = sum(task["lastStatus"] in ("PROVISIONING", "PENDING") for task in tasks)


def short(task):
    """A task's id."""
    return task["taskArn"].rsplit("/", 1)[-1]
