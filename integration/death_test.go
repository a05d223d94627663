package integration

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"inos/host/node"
	"inos/host/supervisor"
	"inos/integration/nodetest"
)

// hostEnv makes the test binary a host that waits to be killed.
const hostEnv = "INOS_TEST_HOST"

func init() {
	dir := os.Getenv(hostEnv)
	if dir == "" {
		return
	}
	n, err := node.Open(context.Background(), node.Options{Home: dir + "/home", PluginsDir: dir + "/plugins", Segment: 16 << 20})
	if err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	fmt.Println(n.Plugins()[0].Instances[0].PID)
	select {}
}

func TestPluginsEndWithAKilledHost(t *testing.T) {
	binary := nodetest.Build(t, nodetest.TestPlugin)
	plugins := nodetest.Folder(t, binary, "probe")
	dir := strings.TrimSuffix(plugins, "/plugins")
	host := exec.Command(os.Args[0])
	host.Env = append(os.Environ(), hostEnv+"="+dir)
	out, err := host.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := host.Start(); err != nil {
		t.Fatal(err)
	}
	line, err := bufio.NewReader(out).ReadString('\n')
	pid, convErr := strconv.Atoi(strings.TrimSpace(line))
	if err != nil || convErr != nil {
		_ = host.Process.Kill()
		t.Fatalf("the host said %q", line)
	}
	if err := host.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = host.Wait()
	nodetest.Eventually(t, "the plugin has ended", func() bool { return syscall.Kill(pid, 0) != nil })
}

func TestKilledPluginComesBack(t *testing.T) {
	n := start(t, node.Options{Restart: supervisor.BackoffOptions{Initial: time.Millisecond}}, "probe")
	for range 3 {
		was := nodetest.Plugin(t, n, "probe").Instances[0].PID
		if err := syscall.Kill(was, syscall.SIGKILL); err != nil {
			t.Fatal(err)
		}
		nodetest.Eventually(t, "another process serves", func() bool {
			p := nodetest.Plugin(t, n, "probe")
			return len(p.Instances) == 1 && p.Instances[0].PID != was
		})
		nodetest.Must(t, n, "probe.echo", []byte("x"))
	}
}

func TestStoppedPluginCountsAsHung(t *testing.T) {
	n := start(t, node.Options{
		HeartbeatEvery: 50 * time.Millisecond, HangAfter: 2 * time.Second,
		Restart: supervisor.BackoffOptions{Initial: time.Millisecond},
	}, "probe")
	was := nodetest.Plugin(t, n, "probe").Instances[0].PID
	if err := syscall.Kill(was, syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	nodetest.Eventually(t, "another process serves", func() bool {
		p := nodetest.Plugin(t, n, "probe")
		return len(p.Instances) == 1 && p.Instances[0].PID != was
	})
	nodetest.Must(t, n, "probe.echo", []byte("x"))
}

func TestCrashLoopIsGivenUp(t *testing.T) {
	n := start(t, node.Options{Restart: supervisor.BackoffOptions{Initial: time.Millisecond, Limit: 3}}, "probe", "other")
	for range 3 {
		p := nodetest.Plugin(t, n, "probe")
		if len(p.Instances) == 0 {
			break
		}
		was := p.Instances[0].PID
		_ = syscall.Kill(was, syscall.SIGKILL)
		nodetest.Eventually(t, "the death is noticed", func() bool {
			p := nodetest.Plugin(t, n, "probe")
			return p.Phase == node.Stopped || (len(p.Instances) == 1 && p.Instances[0].PID != was)
		})
	}
	if p := nodetest.Plugin(t, n, "probe"); p.Phase != node.Stopped || p.Hint == "" {
		t.Errorf("phase %s, %q, %q", p.Phase, p.Reason, p.Hint)
	}
	nodetest.Must(t, n, "other.echo", []byte("x"))
}
