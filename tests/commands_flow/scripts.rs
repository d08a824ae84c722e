//! Scripts that the host pushes, over restarts and kills of the agent.

use rustix::process::Signal;

use super::rig::{Lab, script, seen};
use super::support::PATIENCE;
use super::support::flows::SECRET;

#[tokio::test]
async fn a_script_runs_once_also_when_it_is_pushed_again_and_over_a_restart() {
    let lab = Lab::new().await;
    let ran = lab.folder.path().join("ran");
    let content = format!("echo ran >> {}\necho said\nexit 3\n", ran.display());
    let agent = lab.start(Some(SECRET));
    let host = lab.host().await;
    let done = host.script(&script("e-1", content.clone()), PATIENCE).await.unwrap();
    assert_eq!((done.exit_code, done.stdout.as_str()), (3, "said\n"));
    let again = host.script(&script("e-1", content.clone()), PATIENCE).await.unwrap();
    assert_eq!(again.exit_code, 3);
    agent.signal(Signal::TERM);
    assert_eq!(agent.end().0, Some(0));
    drop(host);

    let interrupted = lab.start(Some(SECRET));
    let host = lab.host().await;
    let begun = lab.folder.path().join("begun");
    let slow = format!("echo begun >> {}\nsleep 60\n", begun.display());
    let slow_one = script("e-2", slow.clone());
    let begins = async {
        seen(&begun).await;
        interrupted.signal(Signal::KILL);
    };
    let (cut, ()) = tokio::join!(host.script(&slow_one, PATIENCE), begins);
    assert!(cut.is_err(), "the agent was killed in the middle: {cut:?}");
    drop(interrupted);
    drop(host);

    let _agent = lab.start(Some(SECRET));
    let host = lab.host().await;
    let again = host.script(&script("e-1", content), PATIENCE).await.unwrap();
    assert_eq!(again.exit_code, 3, "over a restart");
    let cut = host.script(&script("e-2", slow), PATIENCE).await.unwrap();
    assert_eq!(cut.exit_code, -1);
    assert!(cut.stderr.contains("not run a second time"), "{}", cut.stderr);
    assert_eq!(seen(&ran).await, "ran\n");
    assert_eq!(seen(&begun).await, "begun\n");
}
