from conftest import TINY
SHAPELESS = [t for t in TINY if not t.startswith(("dataset", "model"))]
def test_a(run_cli, folder):
    o = run_cli(*TINY); print(o); assert o.exit_code==0
def test_b(finished_run): print(list(finished_run.iterdir()))
def test_s(run_cli, folder):
    o = run_cli("-m", *SHAPELESS, "model=mlp,cnn", "dataset=digits", "seed=0,1,2"); print(o.exit_code, o.out, o.err)
    assert o.exit_code==0
def test_s2(run_cli, folder):
    o = run_cli("-m", *TINY, "model.filters=[8],[8,8,8,8,8]"); print(o.exit_code, o.out, o.err)
    assert o.exit_code==1
def test_s3(run_cli, folder):
    o = run_cli("-m", *SHAPELESS, "dataset=digits,cifar10"); print(o.exit_code, o.out, o.err)
    assert o.exit_code==1
def test_s4(run_cli, folder):
    o = run_cli("-m", *TINY, "optimizer.learning_rate=0.01,1e38", "optimizer=sgd"); print(o.exit_code, o.out, o.err)
    assert o.exit_code==1
