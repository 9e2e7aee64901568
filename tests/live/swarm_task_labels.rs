//! A container that belongs to a Swarm task is the swarm provider's: its labels come from the service.

use crate::support::container::Container;
use crate::support::engine::Engine;
use crate::support::portolan::Portolan;

#[test]
fn labels_on_a_task_container_are_left_alone_and_deploy_labels_are_named() {
    let Some(engine) = Engine::shared() else { return };
    let task = Container::named(engine, "stack_web.1.task")
        .label("com.docker.swarm.task.id", "task")
        .label("com.docker.swarm.service.name", "stack_web")
        .label("portolan.host", "web.task.test")
        .start();
    let _plain = Container::named(engine, "task-neighbour").label("portolan.host", "neighbour.task.test").start();
    let portolan = Portolan::beside(engine);

    portolan.get_from("https://neighbour.task.test/", "task-neighbour");
    portolan.problem("SwarmTask", &[&task.name, "deploy.labels"]);
    assert!(portolan.routes_of("web.task.test").is_empty());
    let refused = portolan.get("https://web.task.test/").unwrap_err();
    assert_eq!(refused.code, 35, "nobody holds that name: {refused:?}");
}

#[test]
fn a_task_container_without_portolan_labels_is_no_problem() {
    let Some(engine) = Engine::shared() else { return };
    let task = Container::named(engine, "stack_quiet.1.task")
        .label("com.docker.swarm.task.id", "quiet")
        .label("com.docker.swarm.service.name", "stack_quiet")
        .start();
    let _seen = Container::named(engine, "quiet-neighbour").label("portolan.host", "neighbour.quiet.test").start();
    let portolan = Portolan::beside(engine);

    portolan.get_from("https://neighbour.quiet.test/", "quiet-neighbour");
    let problems = portolan.problems();
    assert!(!problems.iter().any(|problem| problem.to_string().contains(&task.name)), "{problems:#?}");
}
