//! A module's expressions, computed: what Terraform would hand to the provider, with names in the place of what only an
//! account knows.

use super::schema::schema;
use super::terraform::{Module, arguments_of, attribute, labels_of, object_type};
use hcl::eval::{Context, Evaluate, FuncArgs, FuncDef, ParamType};
use hcl::{Expression, Map, Value};
use std::collections::BTreeMap;

/// A module with its variables given.
pub(super) struct Evaluated {
    module: Module,
    variables: Value,
    locals: Map<String, Value>,
}

impl Evaluated {
    /// With these variables, and the defaults of the others.
    pub(super) fn new(module: Module, mut given: BTreeMap<String, Value>) -> Self {
        let nothing = context();
        let default =
            |block| attribute(hcl::Block::body(block), "default").map(|value| value.evaluate(&nothing).unwrap());
        let variables = module.blocks("variable").map(|block| {
            let name = labels_of(block)[0];
            let value = given.remove(name).or_else(|| default(block));
            let value = value.unwrap_or_else(|| panic!("{}: {name} is not given", module.name()));
            (name.to_owned(), filled(value, attribute(block.body(), "type").unwrap()))
        });
        let variables = Value::Object(variables.collect());
        let mut evaluated = Self { module, variables, locals: Map::new() };
        // In whatever order they need each other; those that need a function which is not here stay unknown.
        loop {
            let context = evaluated.context(&[]);
            let more: Vec<(String, Value)> = (evaluated.module.locals().into_iter())
                .filter(|(name, _)| !evaluated.locals.contains_key(*name))
                .filter_map(|(name, expression)| Some((name.to_owned(), expression.evaluate(&context).ok()?)))
                .collect();
            if more.is_empty() {
                return evaluated;
            }
            evaluated.locals.extend(more);
        }
    }

    /// The module that a `module` block of this one calls, with the variables that it gives.
    pub(super) fn call(&self, name: &str, called: Module) -> Self {
        let block = self.module.block("module", &[name]).unwrap();
        let context = self.context(&[]);
        let given = block.body().attributes().filter(|given| given.key() != "source");
        let given = given.map(|given| (given.key().to_owned(), given.expr().evaluate(&context).unwrap()));
        Self::new(called, given.collect())
    }

    /// An argument of a resource, below blocks of these names; `names` are those of its `for_each` or `dynamic`.
    pub(super) fn argument(&self, resource: [&str; 2], path: &[&str], names: &[(&str, Value)]) -> serde_json::Value {
        let (last, blocks) = path.split_last().unwrap();
        let mut body = self.module.block("resource", &resource).unwrap().body();
        for name in blocks {
            let fits = |block: &&hcl::Block| block.identifier() == *name || labels_of(block) == [*name];
            body = body.blocks().find(fits).unwrap_or_else(|| panic!("{resource:?} has no {name}")).body();
        }
        let expression = attribute(body, last).unwrap_or_else(|| panic!("{resource:?} has no {path:?}"));
        let value = expression.evaluate(&self.context(names));
        serde_json::to_value(value.unwrap_or_else(|error| panic!("{resource:?} {path:?}: {error}"))).unwrap()
    }

    fn context(&self, names: &[(&str, Value)]) -> Context<'static> {
        let mut context = context();
        context.declare_var("var", self.variables.clone());
        context.declare_var("local", Value::Object(self.locals.clone()));
        context.declare_var("path", hcl::value!({ "module" = (self.module.directory.display().to_string()) }));
        for kind in ["data", "ephemeral"] {
            context.declare_var(kind, Value::Object(self.stand_ins(kind)));
        }
        for (name, stand_ins) in self.stand_ins("resource") {
            context.declare_var(name, stand_ins);
        }
        for (name, value) in names {
            context.declare_var(*name, value.clone());
        }
        context
    }

    /// For each block of a kind its attributes, each with its own name as value; by its keys where it has `for_each`.
    fn stand_ins(&self, kind: &str) -> Map<String, Value> {
        let mut given = context();
        given.declare_var("var", self.variables.clone());
        given.declare_var("local", Value::Object(self.locals.clone()));
        let mut types: Map<String, Map<String, Value>> = Map::new();
        for block in self.module.blocks(kind) {
            let [of, label] = labels_of(block)[..] else { panic!("{kind} has two labels") };
            let known = &schema()[kind][of];
            let attributes = known["attributes"].as_array().unwrap().iter().map(|name| name.as_str().unwrap());
            let names = known["arguments"].as_object().unwrap().keys().map(String::as_str).chain(attributes);
            let members = names.map(|name| (name.to_owned(), Value::from(format!("{of}.{label}.{name}")))).collect();
            let each = attribute(block.body(), "for_each").and_then(|each| each.evaluate(&given).ok());
            let members = match each {
                Some(Value::Object(keys)) => {
                    keys.keys().map(|key| (key.clone(), Value::Object(Map::clone(&members)))).collect()
                }
                _ => members,
            };
            types.entry(of.to_owned()).or_default().insert(label.to_owned(), Value::Object(members));
        }
        types.into_iter().map(|(of, labels)| (of, Value::Object(labels))).collect()
    }
}

/// A value with the members that its type has defaults for; null for those without.
fn filled(value: Value, of: &Expression) -> Value {
    let (Value::Object(mut members), Some(known)) = (value.clone(), object_type(of)) else { return value };
    for (name, of) in known {
        if let (Some(optional), false) = (arguments_of(of, "optional"), members.contains_key(name)) {
            let default = optional.get(1).map(|default| default.evaluate(&Context::new()).unwrap());
            members.insert(name.to_owned(), default.unwrap_or(Value::Null));
        }
    }
    Value::Object(members)
}

/// Those of Terraform's functions that the values under test need.
fn context() -> Context<'static> {
    let mut context = Context::new();
    let mut any = |name: &'static str, function: fn(FuncArgs) -> Result<Value, String>| {
        context.declare_func(name, FuncDef::builder().variadic_param(ParamType::Any).build(function));
    };
    any("concat", |lists| {
        Ok(Value::Array(lists.into_values().iter().flat_map(|list| list.as_array().unwrap().clone()).collect()))
    });
    any("contains", |given| Ok(Value::Bool(given[0].as_array().unwrap().contains(&given[1]))));
    any("join", |given| {
        let parts: Vec<&str> = given[1].as_array().unwrap().iter().map(|part| part.as_str().unwrap()).collect();
        Ok(Value::from(parts.join(given[0].as_str().unwrap())))
    });
    any("jsonencode", |given| serde_json::to_string(&given[0]).map(Value::from).map_err(|error| error.to_string()));
    any("keys", |given| Ok(given[0].as_object().unwrap().keys().map(|key| Value::from(key.as_str())).collect()));
    any("length", |given| {
        Ok(Value::from(given[0].as_array().map_or_else(|| given[0].as_object().unwrap().len(), Vec::len)))
    });
    any("merge", |objects| {
        Ok(Value::Object(objects.into_values().iter().flat_map(|object| object.as_object().unwrap().clone()).collect()))
    });
    any("tostring", |given| Ok(Value::from(given[0].to_string())));
    any("file", |given| {
        std::fs::read_to_string(given[0].as_str().unwrap()).map(Value::from).map_err(|error| error.to_string())
    });
    any("replace", |given| {
        let [text, from, to] = [0, 1, 2].map(|place| given[place].as_str().unwrap());
        Ok(Value::from(text.replace(from, to)))
    });
    any("values", |given| Ok(given[0].as_object().unwrap().values().cloned().collect()));
    any("upper", |given| Ok(Value::from(given[0].as_str().unwrap().to_uppercase())));
    context
}
