//! The golden cases of translation: `tests/golden/swarm/<case>/in.yaml` must give `out.yaml`.

use std::path::Path;

use serde::Deserialize;

use crate::config::settings::SwarmSettings;
use crate::config::{read, yaml};
use crate::golden;
use crate::model::mtls::TrustBundle;
use crate::provider::docker::golden_printed;

use super::objects::{Surroundings, Swarm};
use super::translate::translate;

#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Case {
    settings: SwarmSettings,
    surroundings: Surroundings,
    swarm: Swarm,
}

#[test]
fn every_golden_case_translates_to_its_output() {
    golden::check("swarm", 10, |input, reversed| {
        let mut case = read_case(input);
        if reversed {
            case.swarm.services.reverse();
            case.swarm.tasks.reverse();
            case.swarm.nodes.reverse();
            case.swarm.configs.reverse();
            case.surroundings.networks.reverse();
        }
        let snapshot = translate(&case.swarm, &case.surroundings, &case.settings);
        let bundle = |bundle: &TrustBundle| format!("- {}: {:?}\n", bundle.id, bundle.from);
        let bundles: String = snapshot.bundles.iter().map(bundle).collect();
        let bundles = if bundles.is_empty() { bundles } else { format!("bundles:\n{bundles}") };
        golden_printed(&snapshot) + &bundles
    });
}

fn read_case(path: &Path) -> Case {
    let text = std::fs::read_to_string(path).expect("readable");
    let tree =
        yaml::parse(&path.display().to_string().into(), &text).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    read::strict(&tree).unwrap_or_else(|fault| panic!("{fault}"))
}
