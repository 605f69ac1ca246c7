// Chat templates as models have them, and conversations. The expected texts in the tests are those of Python's Jinja2 with the
// settings of Hugging Face's library.
import type { ChatMessage } from '../../../lib/chat/messages.js'

/** Turns must alternate; a system message becomes part of the first question. */
export const turns = `{% if messages[0]['role'] == 'system' %}
    {%- set rules = messages[0]['content'] %}
    {%- set turns = messages[1:] %}
{%- else %}
    {%- set rules = '' %}
    {%- set turns = messages %}
{%- endif %}
{{- bos_token }}
{%- for turn in turns %}
    {%- if (turn['role'] == 'user') != (loop.index0 % 2 == 0) %}
        {{- raise_exception('user and assistant take turns, but message ' ~ loop.index ~ ' is of the ' ~ turn['role']) }}
    {%- endif %}
    {%- if turn['role'] == 'user' %}
        {{- '[Q] ' + ((rules + '\\n\\n') if loop.first and rules else '') + turn['content'].strip() + ' [/Q]' }}
    {%- else %}
        {{- ' ' + turn['content'] | trim + eos_token }}
    {%- endif %}
{%- endfor %}
`

/** Messages between tags, then a date and JSON. */
export const tagged = `{%- if not day is defined %}{%- set day = strftime_now('%d %b %Y') %}{%- endif %}
{%- for m in messages -%}
<|{{ m.role }}|>
{{ m.content }}
{%- if m.name is defined %} ({{ m.name | upper }}){% endif %}

<|end|>
{% endfor %}
{% if add_generation_prompt -%}
<|assistant|>
{% endif -%}
{# the date comes last #}
{{ day }} {{ {'turns': messages | length, 'roles': messages | map(attribute='role') | list, 'é': none, 'deep': {'x': [1, true, 'a"b']}} | tojson }}
{{ [{'a': 1}, []] | tojson(indent=2) }}
{% if thinking is defined and thinking is false %}<think></think>{% endif %}`

export const short: ChatMessage[] = [{ role: 'user', content: 'Hi' }]
export const long: ChatMessage[] = [
  { role: 'system', content: 'Be brief.' },
  { role: 'user', content: ' Hi \n' },
  { role: 'assistant', content: ' Hello.\n' },
  { role: 'user', content: 'How <are> "you", é?', name: 'Ann' },
]
