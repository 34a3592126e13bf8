// Reads what operators are given, with the parsers of the programs that will read it: docker-compose.yml (compose-go) and alert rules (Prometheus).
//
//	check compose FILE            the project as JSON, or the error
//	check rules FILE              [{"alert", "for_s", "metrics": [...], "labels": {...}, "annotations": {...}}]
//	check metrics                 each line of standard input a question: the metrics it names, as JSON
//	check alerts FILE             standard input: lines {"t_s", "labels", "text"}, what was scraped when; the alerts that fire, each with when
package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"sort"
	"time"

	"github.com/compose-spec/compose-go/v2/cli"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/model/rulefmt"
	"github.com/prometheus/prometheus/model/textparse"
	"github.com/prometheus/prometheus/promql"
	"github.com/prometheus/prometheus/promql/parser"
	"github.com/prometheus/prometheus/tsdb"
)

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(args []string) error {
	switch {
	case len(args) == 2 && args[0] == "compose":
		return compose(args[1])
	case len(args) == 2 && args[0] == "rules":
		return rules(args[1])
	case len(args) == 1 && args[0] == "metrics":
		return questions()
	case len(args) == 2 && args[0] == "alerts":
		return alerts(args[1])
	}
	return errors.New("usage: check compose FILE | rules FILE | metrics | alerts FILE")
}

func compose(path string) error {
	options, err := cli.NewProjectOptions([]string{path}, cli.WithDotEnv, cli.WithProfiles([]string{"*"}))
	if err != nil {
		return err
	}
	project, err := options.LoadProject(context.Background())
	if err != nil {
		return err
	}
	made, err := project.MarshalJSON()
	if err != nil {
		return err
	}
	_, err = os.Stdout.Write(made)
	return err
}

type rule struct {
	Alert       string            `json:"alert"`
	ForS        float64           `json:"for_s"`
	Metrics     []string          `json:"metrics"`
	Labels      map[string]string `json:"labels"`
	Annotations map[string]string `json:"annotations"`
	expr        string
}

func read(path string) ([]rule, error) {
	raw, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	groups, errs := rulefmt.Parse(raw)
	if len(errs) > 0 {
		return nil, errors.Join(errs...)
	}
	found := []rule{}
	for _, group := range groups.Groups {
		for _, one := range group.Rules {
			metrics, err := named(one.Expr.Value)
			if err != nil {
				return nil, fmt.Errorf("%s: %w", one.Alert.Value, err)
			}
			found = append(found, rule{one.Alert.Value, time.Duration(one.For).Seconds(), metrics, one.Labels, one.Annotations, one.Expr.Value})
		}
	}
	return found, nil
}

func rules(path string) error {
	found, err := read(path)
	if err != nil {
		return err
	}
	return json.NewEncoder(os.Stdout).Encode(found)
}

func named(question string) ([]string, error) {
	expr, err := parser.ParseExpr(question)
	if err != nil {
		return nil, err
	}
	found := map[string]bool{}
	parser.Inspect(expr, func(node parser.Node, _ []parser.Node) error {
		if selector, ok := node.(*parser.VectorSelector); ok {
			found[selector.Name] = true
		}
		return nil
	})
	names := []string{}
	for name := range found {
		names = append(names, name)
	}
	sort.Strings(names)
	return names, nil
}

func questions() error {
	lines := bufio.NewScanner(os.Stdin)
	for lines.Scan() {
		names, err := named(lines.Text())
		if err != nil {
			return fmt.Errorf("%s: %w", lines.Text(), err)
		}
		if err := json.NewEncoder(os.Stdout).Encode(names); err != nil {
			return err
		}
	}
	return lines.Err()
}

type scrape struct {
	TS     float64           `json:"t_s"`
	Labels map[string]string `json:"labels"`
	Text   string            `json:"text"`
}

func alerts(path string) error {
	known, err := read(path)
	if err != nil {
		return err
	}
	folder, err := os.MkdirTemp("", "alerts")
	if err != nil {
		return err
	}
	defer os.RemoveAll(folder)
	options := tsdb.DefaultOptions()
	db, err := tsdb.Open(folder, nil, nil, options, nil)
	if err != nil {
		return err
	}
	defer db.Close()
	times, err := store(db)
	if err != nil {
		return err
	}
	engine := promql.NewEngine(promql.EngineOpts{MaxSamples: 1e6, Timeout: time.Minute, LookbackDelta: 5 * time.Minute})
	since := map[string]float64{}
	fired := map[string]float64{}
	for _, at := range times {
		for _, one := range known {
			query, err := engine.NewInstantQuery(context.Background(), db, nil, one.expr, time.UnixMilli(int64(at*1000)))
			if err != nil {
				return err
			}
			vector, err := query.Exec(context.Background()).Vector()
			if err != nil {
				return err
			}
			active := map[string]bool{}
			for _, sample := range vector {
				key := one.Alert + sample.Metric.String()
				active[key] = true
				if _, ok := since[key]; !ok {
					since[key] = at
				}
				if _, ok := fired[one.Alert]; !ok && at-since[key] >= one.ForS {
					fired[one.Alert] = at
				}
			}
			query.Close()
			for key := range since {
				if len(key) > len(one.Alert) && key[:len(one.Alert)+1] == one.Alert+"{" && !active[key] {
					delete(since, key)
				}
			}
		}
	}
	return json.NewEncoder(os.Stdout).Encode(fired)
}

func store(db *tsdb.DB) ([]float64, error) {
	seen := map[float64]bool{}
	lines := json.NewDecoder(os.Stdin)
	for {
		var one scrape
		if err := lines.Decode(&one); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			return nil, err
		}
		seen[one.TS] = true
		if err := keep(db, one); err != nil {
			return nil, err
		}
	}
	times := []float64{}
	for at := range seen {
		times = append(times, at)
	}
	sort.Float64s(times)
	return times, nil
}

func keep(db *tsdb.DB, one scrape) error {
	at := int64(one.TS * 1000)
	appender := db.Appender(context.Background())
	up := 0.0
	if one.Text != "" {
		up = 1
		read := textparse.NewOpenMetricsParser([]byte(one.Text), labels.NewSymbolTable())
		for {
			entry, err := read.Next()
			if errors.Is(err, io.EOF) {
				break
			}
			if err != nil {
				return err
			}
			if entry != textparse.EntrySeries {
				continue
			}
			var series labels.Labels
			read.Metric(&series)
			_, _, value := read.Series()
			builder := labels.NewBuilder(series)
			for name, word := range one.Labels {
				builder.Set(name, word)
			}
			if _, err := appender.Append(0, builder.Labels(), at, value); err != nil {
				return err
			}
		}
	}
	builder := labels.NewBuilder(labels.FromStrings("__name__", "up"))
	for name, word := range one.Labels {
		builder.Set(name, word)
	}
	if _, err := appender.Append(0, builder.Labels(), at, up); err != nil {
		return err
	}
	return appender.Commit()
}
