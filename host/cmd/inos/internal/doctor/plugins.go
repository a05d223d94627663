package doctor

import (
	"fmt"

	"inos/host/supervisor"
)

// enforcement tells how the limits that the policy gives plugins are kept.
func enforcement() Finding { return judgeEnforcement(supervisor.Probe()) }

func judgeEnforcement(e supervisor.Enforcement, left error) Finding {
	const check = "limits of plugins"
	switch {
	case left != nil:
		return warn(check, left.Error(), "remove that control group by hand with rmdir")
	case e.Weakest() >= supervisor.GroupV1:
		return ok(check, e.String())
	}
	return warn(check, e.String()+"; "+e.Note,
		"start the node in a control group of its own, with systemd-run --user --scope -p Delegate=yes, or with Delegate=yes in its unit")
}

// openFiles raises the limit of this process as the node does.
func openFiles() Finding { return judgeOpenFiles(supervisor.RaiseFileLimit()) }

func judgeOpenFiles(n uint64, err error) Finding {
	const check, advice = "open files", "raise it with ulimit -Hn, or with LimitNOFILE in the systemd unit; a plugin takes about 10"
	text := fmt.Sprintf("%d allowed", n)
	switch {
	case err != nil:
		return fail(check, err.Error(), advice)
	case n == supervisor.Unlimited:
		return ok(check, "no limit")
	case n < supervisor.GoodFiles:
		return warn(check, fmt.Sprintf("%s, %d are advised", text, supervisor.GoodFiles), advice)
	}
	return ok(check, text)
}
